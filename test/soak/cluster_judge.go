//go:build !windows

package soak

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"

	"fleetbridge/bridge/cluster"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// clusterJudge sees what bridges of a cluster write and whom they connect for, from outside.
type clusterJudge struct {
	mu       sync.Mutex
	owners   map[int][]tenancy
	connects []connect
	markers  map[string]uint64 // newest of each, by stream and subject
	fenced   int               // writes that name their marker
	zombies  []string          // of them those that name an older one than is there
	claims   int
	newest   map[int]uint64 // record of each shard
	read     atomic.Uint64  // of the ownership log, up to this sequence
}

// quiet is how long nothing may come of a stream before it is asked anew.
const quiet = 3 * time.Second

// tenancy is that a bridge owns a shard.
type tenancy struct {
	bridge   string
	from, to time.Time // to: zero while it lasts
}

// connect is a CONNECT of a bridge for a Thing.
type connect struct {
	bridge, thing string
	at            time.Time
}

// nobodyKnows has a shard when records of it were replaced before the judge read them: the log keeps the newest alone.
const nobodyKnows = "?"

// fencedStreams are those that a shard's owner alone may write.
var fencedStreams = []string{"FLEETS_DOWN", "KV_FLEETS_SHADOW", "KV_FLEETS_EXECUTIONS", "KV_FLEETS_LEASES", "KV_FLEETS_MARKS"}

// watch follows the ownership log and the fenced streams until ctx ends.
func (j *clusterJudge) watch(ctx context.Context, s *procSite) {
	s.Helper()
	js, err := jetstream.New(s.connect("judge"))
	if err != nil {
		s.Fatal(err)
	}
	var work sync.WaitGroup
	for _, stream := range append([]string{"KV_FLEETS_CLUSTER"}, fencedStreams...) {
		work.Go(func() {
			last := uint64(0)
			for ctx.Err() == nil {
				_ = j.follow(ctx, js, stream, &last)
				_ = flow.Sleep(ctx, 200*time.Millisecond)
			}
		})
	}
	s.Cleanup(work.Wait)
}

// follow reads a stream from behind the last message on.
func (j *clusterJudge) follow(ctx context.Context, js jetstream.JetStream, stream string, last *uint64) error {
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := js.OrderedConsumer(short, stream, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: *last + 1})
	if err != nil {
		return err
	}
	messages, err := c.Messages()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, messages.Stop)()
	for {
		m, err := messages.Next(jetstream.NextMaxWait(quiet)) // a consumer may be lost with its server
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if *last = meta.Sequence.Stream; stream == "KV_FLEETS_CLUSTER" {
			j.owns(m, meta)
			j.read.Store(*last)
		} else {
			j.wrote(stream, m, meta.Sequence.Stream)
		}
	}
}

// owns takes a record of the ownership log.
func (j *clusterJudge) owns(m jetstream.Msg, meta *jetstream.MsgMetadata) {
	_, key, found := strings.Cut(m.Subject(), ".shard.")
	p, err := strconv.Atoi(key)
	if !found || err != nil {
		return
	}
	owner := gjson.GetBytes(m.Data(), "owner").String()
	j.mu.Lock()
	defer j.mu.Unlock()
	all := j.owners[p]
	if n := len(all); n > 0 {
		if all[n-1].to.IsZero() {
			all[n-1].to = meta.Timestamp
		}
		if m.Headers().Get(jetstream.ExpectedLastSubjSeqHeader) != fmt.Sprint(j.newest[p]) {
			all = append(all, tenancy{bridge: nobodyKnows, from: all[n-1].from, to: meta.Timestamp})
		}
	}
	j.newest[p] = meta.Sequence.Stream
	if owner != "" {
		all = append(all, tenancy{bridge: owner, from: meta.Timestamp})
		j.claims++
	}
	j.owners[p] = all
}

// wrote compares the marker that a write names with the one that is there.
func (j *clusterJudge) wrote(stream string, m jetstream.Msg, seq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if subject := m.Subject(); strings.Contains(subject, "epoch.") && (strings.HasPrefix(subject, "_fleets.epoch.") || strings.Contains(subject, "=epoch.")) {
		j.markers[stream+" "+subject] = max(j.markers[stream+" "+subject], seq)
		return
	}
	marker := m.Headers().Get(jetstream.ExpectedLastSubjSeqSubjHeader)
	expected, err := strconv.ParseUint(m.Headers().Get(jetstream.ExpectedLastSubjSeqHeader), 10, 64)
	if marker == "" || err != nil {
		return
	}
	j.fenced++
	key := stream + " " + marker
	if expected < j.markers[key] {
		j.zombies = append(j.zombies, fmt.Sprintf("%s %d: %s names marker %d of %s, which has %d", stream, seq, m.Subject(), expected, marker, j.markers[key]))
	}
	j.markers[key] = max(j.markers[key], expected)
}

// connected takes a CONNECT.
func (j *clusterJudge) connected(bridge, thing string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.connects = append(j.connects, connect{bridge, thing, time.Now()})
}

// begin forgets the CONNECTs that were before the log was watched.
func (j *clusterJudge) begin() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.connects = nil
}

// count is how many CONNECTs and claims there were so far.
func (j *clusterJudge) count() (connects, claims int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.connects), j.claims
}

const (
	// A permit may be so old when CONNECT leaves, and the machine has much else to do.
	permitLife = 3 * time.Second
	// Clocks of NATS servers and what follows them.
	clockSlack = 200 * time.Millisecond
)

// caughtUp returns when the judge has read all that is in the ownership log by now.
func (j *clusterJudge) caughtUp(s *clusterSite) {
	s.Helper()
	for newest := uint64(0); newest == 0 || j.read.Load() < newest; {
		ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
		if log, err := s.js.Stream(ctx, "KV_FLEETS_CLUSTER"); err == nil && newest == 0 {
			newest = log.CachedInfo().State.LastSeq
		}
		cancel()
		if flow.Sleep(s.ctx, 100*time.Millisecond) != nil {
			s.Fatalf("the judge has read the ownership log up to %d of %d", j.read.Load(), newest)
		}
	}
}

// strays are CONNECTs of bridges that did not own the Thing's shard then, nor shortly before. Of some nobody can say.
func (j *clusterJudge) strays(shards int) (out []string, unknown int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.connects {
		p := cluster.Of(mapping.Token(c.thing), shards)
		had := func(bridge string) bool {
			return slices.ContainsFunc(j.owners[p], func(t tenancy) bool {
				return t.bridge == bridge && !c.at.Before(t.from.Add(-clockSlack)) && (t.to.IsZero() || c.at.Before(t.to.Add(permitLife)))
			})
		}
		switch {
		case had(c.bridge):
		case had(nobodyKnows):
			unknown++
		default:
			out = append(out, fmt.Sprintf("%s for %s at %v; shard %d was owned by %v", c.bridge, c.thing, c.at.Format("15:04:05.000"), p, j.owners[p]))
		}
	}
	return out, unknown
}
