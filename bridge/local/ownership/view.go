package ownership

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/cluster"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// View is what a bridge knows of its cluster.
type View struct {
	Members []cluster.Standing
	Config  string // digest of this bridge's settings
	Shards  int
	Owned   int      // of them this bridge's
	Owners  []string // of all that have an owner, by id
	Free    []int    // those of which the log says that no bridge has them that lives
	Suspect bool     // this bridge has no fresh proof that it takes part
	Away    bool     // it does not reach the broker, and others do
	Joined  bool
	Proof   time.Duration     // how old the newest proof is
	Fenced  map[string]uint64 // writes that were refused for good, by stream
}

// View tells how the cluster stands.
func (o *Ownership) View() View {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	v := View{Members: o.bridge.Members(now), Config: o.cfg.Config, Shards: o.cfg.Shards, Suspect: o.bridge.Suspect(now), Away: o.bridge.Away(), Joined: o.bridge.Joined(), Proof: o.bridge.Proved(now), Fenced: maps.Clone(o.fences)}
	for p := range o.cfg.Shards {
		owner, lives := o.bridge.Owner(p, now)
		if !lives {
			v.Free = append(v.Free, p)
		}
		if owner.Owner != "" && !slices.Contains(v.Owners, owner.Owner) {
			v.Owners = append(v.Owners, owner.Owner)
		}
		if o.bridge.Verified(p, 0) {
			v.Owned++
		}
	}
	slices.Sort(v.Owners)
	return v
}

// said is what the log was told of the cluster.
type said struct {
	owners  string
	owned   int
	suspect bool
	away    bool
	dead    map[string]bool
	other   map[string]string // configurations that differ, by bridge
}

// say logs what has changed.
func (o *Ownership) say() {
	v, log := o.View(), o.cfg.Log
	if v.Joined && v.Suspect != o.said.suspect {
		if o.said.suspect = v.Suspect; v.Suspect {
			log.Warn("the ownership log does not take this bridge's beats: it connects no thing anew, and another bridge may take over", "silent", v.Proof.Round(time.Second))
		} else {
			log.Info("the ownership log takes this bridge's beats again")
		}
	}
	if v.Away != o.said.away {
		if o.said.away = v.Away; v.Away {
			log.Warn("this bridge does not reach the broker, and others do: it gives its things away, and stays away until it does", "grace", o.cfg.Grace)
		} else {
			log.Info("this bridge reaches the broker again, and gets its part of the things")
		}
	}
	if owners := strings.Join(v.Owners, ", "); v.Joined && (owners != o.said.owners || v.Owned != o.said.owned) {
		o.said.owners, o.said.owned = owners, v.Owned
		log.Info("ownership has changed", "owners", owners, "mine", v.Owned, "shards", v.Shards)
	}
	dead := map[string]bool{}
	for _, m := range v.Members {
		if m.Dead && !m.Left {
			if dead[m.ID] = true; !o.said.dead[m.ID] {
				log.Warn("a bridge of the cluster does not beat any more", "bridge", m.ID)
			}
		} else if o.said.dead[m.ID] {
			log.Info("a bridge of the cluster beats again", "bridge", m.ID)
		}
	}
	o.said.dead = dead
	other := map[string]string{}
	for _, m := range v.Members {
		if m.Config == o.cfg.Config {
			continue
		}
		if other[m.ID] = m.Config; o.said.other[m.ID] != m.Config && !m.Dead && !m.Left {
			log.Warn("a bridge of the cluster has other settings than this one: a thing that moves there is treated by them; give all the same file", "bridge", m.ID, "config", m.Config, "mine", o.cfg.Config)
		}
	}
	o.said.other = other
}

// Member is a bridge's record, for fleetbridge cluster.
type Member struct {
	ID string `json:"id"`
	// State is active (it owns Things), standby, draining, away (it does not reach the broker), left, or silent: its last
	// beat is long ago.
	State     string    `json:"state"`
	Version   string    `json:"version"`
	Shards    int       `json:"shards"`
	Things    int       `json:"things"`
	Connected int       `json:"connected"`
	Beat      time.Time `json:"beat"` // when the server stored it
	Config    string    `json:"config"`
}

// silentAfter is when a beat is so old that people are told.
const silentAfter = 6 * time.Second

// ErrNoCluster: no bridge of a cluster has ever been there.
var ErrNoCluster = errors.New("there is no cluster: its bridges have cluster.shards in their configuration")

func clusterBucket(ctx context.Context, nc *nats.Conn, s mapping.Subjects) (jetstream.KeyValue, error) {
	js, err := wire.JetStream(nc)
	if err != nil {
		return nil, err
	}
	kv, err := js.KeyValue(ctx, s.Name(bucketCluster))
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, ErrNoCluster
	}
	return kv, err
}

// Members reads who is in the cluster, by id. now is the server's time as far as it is known.
func Members(ctx context.Context, nc *nats.Conn, s mapping.Subjects) (out []Member, err error) {
	kv, err := clusterBucket(ctx, nc, s)
	if err != nil {
		return nil, err
	}
	runs, owned, drained := map[string]string{}, map[cluster.Shard]int{}, map[string]bool{}
	newest := time.Time{}
	err = streams.Entries(ctx, kv, []string{">"}, func(e jetstream.KeyValueEntry) error {
		if e.Created().After(newest) {
			newest = e.Created()
		}
		if token, is := strings.CutPrefix(e.Key(), keyDrain); is {
			drained[token] = true
		} else if strings.HasPrefix(e.Key(), keyShard) {
			var p cluster.Shard
			if err := json.Unmarshal(e.Value(), &p); err != nil {
				return fmt.Errorf("%s: %w", e.Key(), err)
			}
			p.For = ""
			owned[p]++
		} else if token, is := strings.CutPrefix(e.Key(), keyMember); is {
			var m cluster.Member
			if err := json.Unmarshal(e.Value(), &m); err != nil {
				return fmt.Errorf("%s: %w", e.Key(), err)
			}
			id, err := mapping.Untoken(token)
			if err != nil {
				return nil
			}
			state := "standby"
			switch {
			case m.Left:
				state = "left"
			case m.Away:
				state = "away"
			}
			runs[id] = m.Incarnation
			out = append(out, Member{ID: id, State: state, Version: m.Version, Things: m.Things, Connected: m.Connected, Beat: e.Created(), Config: m.Config})
		}
		return nil
	})
	for i := range out {
		m := &out[i]
		m.Shards = owned[cluster.Shard{Owner: m.ID, Incarnation: runs[m.ID]}]
		switch {
		case m.State == "left":
		case max(newest.Sub(m.Beat), time.Since(m.Beat)) > silentAfter:
			m.State = "silent"
		case drained[mapping.Token(m.ID)]:
			m.State = "draining"
		case m.State == "away":
		case m.Shards > 0:
			m.State = "active"
		}
	}
	return out, err
}

// Drain has a bridge give its Things away as soon as another can take them, or no longer.
func Drain(ctx context.Context, nc *nats.Conn, s mapping.Subjects, id string, on bool) error {
	kv, err := clusterBucket(ctx, nc, s)
	if err != nil {
		return err
	}
	if !on {
		return kv.Delete(ctx, keyDrain+mapping.Token(id))
	}
	_, err = kv.Put(ctx, keyDrain+mapping.Token(id), []byte("{}"))
	return err
}
