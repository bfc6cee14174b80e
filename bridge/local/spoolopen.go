package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/door"
	"fleetbridge/bridge/local/storedir"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// SpoolConfig says what a spool keeps, and how much.
type SpoolConfig struct {
	Dir      string        // of the store
	Payload  int           // the largest payload of which the journal must have room for one in a group, twice, however small the disk is
	Interval time.Duration // of syncs of telemetry; 0: every message is synced before its PubAck
	// Intake is a connection of its own to the server, on which the spool hears what programs publish. It closes it.
	Intake *nats.Conn
	// Brake is the server's; nil: nobody is held back.
	Brake *door.Brake
	// Accounts: programs log in to accounts of their own (local.users), so the server says who published.
	Accounts bool
	Window   int        // how many deliveries of a lane may be unsettled; 0: 4096
	FS       journal.FS // nil: the operating system's
	Segment  int64      // bytes of the journal's files; 0: by the size of the disk
	// Checkpoint is how long what the streams have may wait for its sync; 0: a second.
	Checkpoint time.Duration
}

func (c SpoolConfig) window() int {
	if c.Window <= 0 {
		return feedMessages
	}
	return c.Window
}

func (c SpoolConfig) checkpoint() time.Duration {
	if c.Checkpoint <= 0 {
		return checkpointRest
	}
	return c.Checkpoint
}

// openRecords prepares what the bridge must remember, and takes over what an older version remembered in buckets.
func (s *Spool) openRecords(ctx context.Context) error {
	s.records = map[string]*records{}
	for _, name := range recordSorts {
		r := newRecords(s, name)
		var kept func(key string) bool
		if name == wire.BucketMarks {
			kept = func(key string) bool { return key == custodyKey || key == revisionKey }
		}
		if err := r.takeOver(ctx, kept); err != nil {
			return err
		}
		if s.records[name] = r; r.life > 0 {
			s.work.Go(r.expire)
		}
	}
	return nil
}

// serve answers, in JSON, what the commands of an operator ask on a subject, one question after the other.
func (s *Spool) serve(subject string, answer func(question []byte) any) error {
	_, err := s.cfg.Intake.Subscribe(subject, func(m *nats.Msg) {
		if wire.Answerable(s.subjects, m.Reply) {
			out, _ := json.Marshal(answer(m.Data)) // texts, numbers and times
			_ = s.cfg.Intake.Publish(m.Reply, out)
		}
	})
	if err != nil {
		return fmt.Errorf("subscribing to %s: %w", subject, err)
	}
	return nil
}

func (s *Spool) open(ctx context.Context) error {
	s.sayLimits()
	s.sayDamage()
	s.store.custody.judgeJournal(s.journal, s.cfg.Interval > 0)
	if err := s.openRecords(ctx); err != nil {
		return err
	}
	if err := s.openViews(ctx); err != nil {
		return err
	}
	if err := s.openShadows(ctx); err != nil {
		return err
	}
	s.store.spool = s
	if err := s.store.viewsOpened(ctx); err != nil {
		return err
	}
	if err := s.takeOverStreams(ctx); err != nil {
		return err
	}
	for _, b := range s.journal.Lanes() {
		of, ok := parseLaneKey(b.Lane)
		if !ok {
			return fmt.Errorf("journal %s: it holds messages under %q, which is no name of a lane; another program has written it, move it away", s.dir, b.Lane)
		}
		l := s.lane(of)
		l.stored, l.weight = s.journal.Last(), weigh(b)
		s.load(l)
		s.used[of.kind.Class()].Add(l.weight)
		s.accepted.Add(uint64(b.Messages))
	}
	s.sayLeftovers()
	most := s.store.nc.MaxPayload()
	s.largest = int(min(max(most-wire.Headroom, most/2), s.journal.LargestGroup()-wire.Headroom))
	s.work.Go(s.save)
	s.work.Go(s.watch)
	for _, class := range mapping.Classes {
		in, err := s.newIntake(class)
		if err != nil {
			return err
		}
		s.intakes[class] = in
		if err := in.listen(classSubjects(s.subjects, s.store.cfg.Things, class)); err != nil {
			return err
		}
	}
	return errors.Join(
		s.serve(fillsSubject(s.subjects), func([]byte) any { return s.Fills() }),
		s.serve(findSubject(s.subjects), func(id []byte) any { return s.find(string(id)) }),
		s.serve(waitingSubject(s.subjects), s.waiting),
		s.store.DeadLetters().ServeReplays(s.cfg.Intake, s.sendDown),
	)
}

// OpenSpool opens the journal of a store directory and begins to take what programs publish. What streams of an older
// version hold is taken over first. The spool works as long as the store.
func (s *Store) OpenSpool(ctx context.Context, cfg SpoolConfig) (*Spool, error) {
	p := &Spool{cfg: cfg, store: s, dir: filepath.Join(cfg.Dir, s.cfg.Subjects.Name(storedir.Journal)),
		settled: make(chan struct{}, 1), failing: failing{failed: make(chan struct{}, 1)}, life: life{ended: make(chan struct{})}}
	p.house = newHouse(p, s.cfg.Subjects, cfg.window(), s.log)
	p.pending = true
	p.things.Store(&s.cfg.Things)
	_, _, kept, _ := storedir.Space(cfg.Dir)
	var err error
	p.journal, err = journal.Open(ctx, p.dir, journal.Options{
		SegmentSize: cfg.Segment, LargestGroup: 2*int64(cfg.Payload) + wire.Headroom, MinFree: int64(kept), Interval: cfg.Interval, FS: cfg.FS, Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	if err := p.open(ctx); err != nil {
		p.Close()
		s.spool = nil
		return nil, err
	}
	return p, nil
}

// Close takes nothing more from programs, and closes the journal when what it has taken is on the disk.
func (s *Spool) Close() {
	s.once.Do(func() {
		for _, in := range s.intakes {
			if in != nil {
				in.close()
			}
		}
		close(s.ended)
		if s.shadows != nil {
			s.shadows.settle()
		}
		if s.views != nil {
			s.views.close()
		}
		s.work.Wait()
		if s.cfg.Intake != nil {
			s.cfg.Intake.Close()
		}
		if err := s.journal.Close(); err != nil {
			s.log.Error("the journal can't be closed in order; some messages that the broker has may be sent again after the next start", "journal", s.dir, "error", err)
		}
	})
}

// sayLimits tells when streams and journal may grow larger than the disk: then the disk is the limit.
func (s *Spool) sayLimits() {
	_, total, _, err := storedir.Space(s.cfg.Dir)
	if all := Wanted(s.store.cfg); err == nil && all > total {
		s.log.Warn("the limits of the streams together are larger than the disk; when it is nearly full, publishers get errors",
			"limits_bytes", all, "disk_bytes", total, "mend", "lower nats.up.max_bytes or nats.down.max_bytes")
	}
}

// sayDamage tells what the journal could not read when it was opened.
func (s *Spool) sayDamage() {
	for _, d := range s.journal.Damage() {
		if d.Unconfirmed {
			s.log.Warn("the end of the journal was torn, as by a power cut, and is dropped; nobody had been told that it is stored",
				"journal", s.dir, "segment", d.Segment, "records_lost", d.Count(), "error", &d)
			continue
		}
		s.log.Error("part of the journal is damaged; messages that waited among its records are lost",
			"journal", s.dir, "segment", d.Segment, "records_lost", d.Count(), "error", &d)
	}
}

// sayLeftovers tells of messages of Things that are not configured any more. They stay for the day the Thing comes back.
func (s *Spool) sayLeftovers() {
	for token, n := range s.queued() {
		name, err := mapping.Untoken(token)
		if err != nil {
			name = token
		}
		if !slices.Contains(*s.things.Load(), mapping.Thing(name)) {
			s.log.Warn("messages of a Thing that is not configured stay in the queue; add it again to send them", "thing", name, "messages", n)
		}
	}
}
