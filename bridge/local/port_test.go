package local

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/letters"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/bridge/porttest"
	"fleetbridge/mapping"
)

// opened is a store under test, and how it is killed and opened again.
type opened struct {
	store *Store
	up    bridge.Lanes
	nc    *nats.Conn // a program's
	kill  func() *opened
}

// opener makes an empty store.
type opener func(t *testing.T, c StoreConfig) *opened

// inModes runs a test with each kind of server that a store may have.
func inModes(t *testing.T, f func(t *testing.T, open opener)) {
	t.Run("embedded", func(t *testing.T) { f(t, within(0)) })
	t.Run("external", func(t *testing.T) { f(t, external) })
}

// within is with the embedded server.
func within(interval time.Duration) opener {
	return func(t *testing.T, c StoreConfig) *opened {
		r := newRigOn(t, interval, embedded.Config{}, c)
		var now func() *opened
		now = func() *opened {
			return &opened{r.store, r.spool, r.program(), func() *opened {
				r.stop()
				r.start(embedded.Config{}, c)
				return now()
			}}
		}
		return now()
	}
}

func external(t *testing.T, c StoreConfig) *opened {
	j, url := newJournal(t), startPlain(t, server.RANDOM_PORT, t.TempDir(), true).ClientURL()
	c.Subjects = subjects(t)
	if c.Things == nil {
		c.Things = []mapping.Thing{"pump"}
	}
	var open func() *opened
	open = func() *opened {
		nc, err := wire.Dial(testContext(t), wire.DialConfig{URL: url, Log: j.log()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		store, err := Open(testContext(t), nc, c, j.log())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		program, err := nats.Connect(url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(program.Close)
		return &opened{store, store, program, func() *opened {
			store.Close()
			nc.Close()
			return open()
		}}
	}
	return open()
}

func (o *opened) lanes() *porttest.LaneHouse {
	return &porttest.LaneHouse{
		Lanes: o.up, TooLarge: int(o.nc.MaxPayload()) + 1, Kill: func() *porttest.LaneHouse { return o.kill().lanes() },
		Publish: func(ctx context.Context, a mapping.Address, payload []byte, id string) error {
			m := nats.NewMsg(o.store.cfg.Subjects.Print(mapping.SpaceUp, a))
			m.Data = payload
			if id != "" {
				m.Header.Set(jetstream.MsgIDHeader, id)
			}
			answer, err := o.nc.RequestMsgWithContext(ctx, m)
			if err == nil {
				_, err = streams.PubAck(answer)
			}
			return err
		},
	}
}

func (o *opened) views() *porttest.ViewHouse {
	return &porttest.ViewHouse{
		Down: o.store.Down(), Archive: o.store, Graveyard: o.store, Shadows: o.store.Shadow(), TooLarge: int(o.nc.MaxPayload()) + 1,
		Kill: func() *porttest.ViewHouse { return o.kill().views() },
		Letters: func(ctx context.Context) (codes []bridge.Code, payloads [][]byte, err error) {
			dead := o.store.DeadLetters()
			err = dead.Each(ctx, letters.Selection{}, func(l letters.Letter) error {
				whole, err := dead.Get(ctx, l.ID)
				codes, payloads = append(codes, bridge.Code(l.Code)), append(payloads, whole.Payload)
				return err
			})
			return codes, payloads, err
		},
	}
}

func TestLanes(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, open opener) {
		porttest.Lanes(t, func(t *testing.T, o porttest.LaneOptions) *porttest.LaneHouse {
			return open(t, StoreConfig{Things: o.Things, Up: o.MaxBytes, Window: o.Window}).lanes()
		})
	}
	inModes(t, test)
	t.Run("relaxed", func(t *testing.T) { test(t, within(time.Second)) })
}

func TestViews(t *testing.T) {
	t.Parallel()
	inModes(t, func(t *testing.T, open opener) {
		porttest.Views(t, func(t *testing.T) *porttest.ViewHouse { return open(t, StoreConfig{}).views() })
	})
}

// TestPromptAndKeeper: only the journal changes several things at once.
func TestPromptAndKeeper(t *testing.T) {
	t.Parallel()
	porttest.Prompt(t, func(t *testing.T) *porttest.PromptHouse {
		var house func(o *opened) *porttest.PromptHouse
		house = func(o *opened) *porttest.PromptHouse {
			r := o.store.spool.records[wire.BucketExecutions]
			return &porttest.PromptHouse{State: r, Prompt: r, Kill: func() *porttest.PromptHouse { return house(o.kill()) }}
		}
		return house(within(0)(t, StoreConfig{}))
	})
	porttest.Keeper(t, func(t *testing.T) *porttest.KeeperHouse {
		var house func(o *opened) *porttest.KeeperHouse
		house = func(o *opened) *porttest.KeeperHouse {
			return &porttest.KeeperHouse{Keeper: o.store.Down().(bridge.Keeper), Executions: o.store.Executions(), Archive: o.store,
				Kill: func() *porttest.KeeperHouse { return house(o.kill()) }}
		}
		return house(within(0)(t, StoreConfig{}))
	})
}

// TestState: the status, which is in memory, is asked for the same but for what a kill leaves.
func TestState(t *testing.T) {
	t.Parallel()
	inModes(t, func(t *testing.T, open opener) {
		for _, name := range []string{wire.BucketExecutions, wire.BucketLeases, wire.BucketStatus} {
			t.Run(name, func(t *testing.T) {
				o := open(t, StoreConfig{})
				porttest.State(t, func(t *testing.T) *porttest.StateHouse {
					house := func() *porttest.StateHouse {
						if o.store.spool != nil && name != wire.BucketStatus {
							r := o.store.spool.records[name]
							return &porttest.StateHouse{State: r, TooLarge: int(r.spool.journal.LargestGroup())}
						}
						return &porttest.StateHouse{State: o.store.bucket(name), TooLarge: int(o.nc.MaxPayload()) + 1}
					}
					h := house()
					if name != wire.BucketStatus {
						h.Kill = func() *porttest.StateHouse { o = o.kill(); return house() }
					}
					{ // whatever another promise has left
						err := h.List(testContext(t), "", func(key string, _ []byte) error { return h.Delete(testContext(t), key) })
						if err != nil {
							t.Fatal(err)
						}
					}
					return h
				})
			})
		}
	})
}
