package cluster

import (
	"cmp"
	"maps"
	"slices"
)

// Config is what a bridge knows of itself.
type Config struct {
	ID          string
	Incarnation string // no other run's
	Shards      int
	Beat        Time
	Grace       Time // how long a bridge that does not reach the broker, as others do, keeps its shards; 0: for ever
}

const (
	deadAfter    = 5  // ticks of an observer without a beat of the observed
	suspectAfter = 4  // beats without proof
	wedgedAfter  = 3  // ticks in which a shard has to be claimed
	passedOver   = 60 // ticks in which who did not claim gets nothing
	moves        = 4  // shards that a bridge gives away at a time
	joinAfter    = 3  // beats in which another run with the same id would show
	keptBeats    = 9  // own beats that still prove something when they come
	mostAway     = 6  // times that a bridge stays away twice as long as before
)

// Bridge is what one bridge knows of all. It has no lock.
type Bridge struct {
	cfg   Config
	rules rules

	members map[string]*member
	drains  map[string]bool
	shards  []shard
	passed  map[string]uint64 // until which own tick

	told, joined, left bool
	since              Time // when all was told
	// Of the own record.
	seq     uint64
	own     Member // as it was last seen
	note    Member // what it says for people
	sent    sent
	beats   []sent // the last ones that were sent: each may still come into the log
	asked   bool   // another beat is wanted
	proof   Time   // when the newest beat was sent that is in the log; -1: none is
	again   Time   // since when no server was tried
	patient int
	// Whether it reaches the broker.
	away  bool
	equal Time // when no other bridge was last better off
	back  Time // it is away until then at least
	times int  // that it was away without a connection since
}

// sent is when a beat was sent.
type sent struct {
	beat uint64
	at   Time
}

type member struct {
	Member
	at uint64 // own tick when it was seen
}

// shard is a record, and what the bridge does about it.
type shard struct {
	Shard
	epoch    uint64 // its sequence
	free     uint64 // own tick when it was first seen without an owner; 0: it has one
	running  uint64 // epoch that was started and has not stopped
	stopping bool
	stopped  bool   // in order, and it is to be released
	fenced   uint64 // epoch that a stream has refused
	wrote    Time   // when a change of it was last written; 0: none is on its way
}

// rules are those that promises rest on. A test breaks one at a time.
type rules struct {
	dead     func(b *Bridge, m *member, now Time) bool
	verified func(b *Bridge, p int, since Time) bool
	ticks    func(missed uint64) uint64
	another  func(b *Bridge, now Time) bool
}

var theRules = rules{
	// dead: so many own ticks are in the log behind the member's last beat. Without a quorum there are none, and one who
	// was paused or lags has to beat first.
	dead: func(b *Bridge, m *member, _ Time) bool { return b.own.Tick-m.at >= deadAfter },
	// verified: a beat that was sent after since is in the log, and up to it the log says that the shard is ours.
	verified: func(b *Bridge, p int, since Time) bool { return b.mine(p) && b.proof >= since },
	ticks:    func(uint64) uint64 { return 1 },
	// another: a bridge that lives reaches the broker.
	another: func(b *Bridge, now Time) bool {
		for id, m := range b.members {
			if id != b.cfg.ID && m.Broker && !m.Left && !b.rules.dead(b, m, now) {
				return true
			}
		}
		return false
	},
}

// New makes a bridge that has seen nothing yet.
func New(c Config) *Bridge {
	return &Bridge{cfg: c, rules: theRules, members: map[string]*member{}, drains: map[string]bool{}, passed: map[string]uint64{},
		shards: make([]shard, c.Shards), proof: -1}
}

// Note sets what the record says of how the bridge fares, from the next beat on: what people read, and Broker.
func (b *Bridge) Note(m Member) {
	b.note = Member{Version: m.Version, Config: m.Config, Things: m.Things, Connected: m.Connected, Broker: m.Broker}
}

// Step takes what happened at a time and returns what is to be done, in order.
func (b *Bridge) Step(now Time, in any) []any {
	var out []any
	switch in := in.(type) {
	case Tick:
		out = b.tick(now)
	case Reached:
		b.again, b.patient = now, 3
	case Prove:
		b.asked = true
	case Seen:
		if m := b.members[in.ID]; in.Member != nil && in.ID != b.cfg.ID && m != nil && m.Incarnation == in.Member.Incarnation && m.Left == in.Member.Left && m.Away == in.Member.Away {
			m.Member, m.at = *in.Member, b.own.Tick // nothing to decide before the next own tick
			return nil
		}
		out = b.see(now, in.Entry)
	case Told:
		b.told, b.since = true, now
	case Stopped:
		if s := &b.shards[in.Shard]; s.running == in.Epoch {
			s.stopped = b.mine(in.Shard) && s.epoch == in.Epoch
			s.running, s.stopping = 0, false
		}
	case Fenced:
		if s := &b.shards[in.Shard]; s.epoch == in.Epoch {
			s.fenced = in.Epoch
		}
	case Leave:
		b.left, b.asked = true, true
	}
	if out = append(out, b.decide(now)...); b.asked && b.joined && b.sent.beat == b.own.Beat && now-b.sent.at >= b.cfg.Beat/5 {
		b.asked = false
		out = append(out, b.beat(now, 0))
	}
	return out
}

// tick beats, unless the last beat is on its way.
func (b *Bridge) tick(now Time) (out []any) {
	if !b.told || !b.joined && b.taken() && now-b.since < joinAfter*b.cfg.Beat {
		return nil // another run with this id may live
	}
	b.stay(now)
	late := now - max(b.proof, b.since)
	if late < 3*b.cfg.Beat {
		b.patient, b.again = 3, now-late
	} else if now-b.again >= Time(b.patient)*b.cfg.Beat {
		b.patient, b.again = min(2*b.patient, 24), now
		out = append(out, Reconnect{})
	}
	if b.sent.beat > b.own.Beat && now-b.sent.at < 2*b.cfg.Beat {
		return out
	}
	return append(out, b.beat(now, b.rules.ticks(uint64(late/b.cfg.Beat))))
}

// stay decides whether the bridge is away. While nobody reaches the broker nobody is: to move would help no Thing. Who
// comes back and is away again without a single connection stays away for longer each time.
func (b *Bridge) stay(now Time) {
	worse := b.cfg.Grace > 0 && !b.note.Broker && b.rules.another(b, now)
	if !worse {
		b.equal = now
	}
	switch {
	case b.away:
		b.away = !b.note.Broker || now < b.back
	case b.note.Connected > 0:
		b.times = 0
	case worse && now-b.equal >= b.cfg.Grace:
		b.away, b.back = true, now+b.cfg.Grace<<b.times
		b.times = min(b.times+1, mostAway)
	}
}

// taken reports whether a run with this id has left its record, and not in order.
func (b *Bridge) taken() bool {
	m := b.members[b.cfg.ID]
	return m != nil && !m.Left
}

func (b *Bridge) beat(now Time, ticks uint64) Write {
	m := b.note
	m.Incarnation, m.Beat, m.Tick = b.cfg.Incarnation, b.sent.beat+1, b.own.Tick+ticks
	m.Away = b.away
	m.Left = b.left && !slices.ContainsFunc(b.shards, func(s shard) bool { return s.running != 0 || b.owns(&s) })
	b.sent = sent{m.Beat, now}
	if b.beats = append(b.beats, b.sent); len(b.beats) > keptBeats {
		b.beats = b.beats[1:]
	}
	return Write{Member: &m, Expect: b.seq}
}

// see takes an entry of the log in.
func (b *Bridge) see(now Time, e Entry) (out []any) {
	switch {
	case e.Drain != nil:
		b.drains[e.ID] = !e.Removed
	case e.Owner != nil:
		if e.Shard < len(b.shards) {
			s := &b.shards[e.Shard]
			s.Shard, s.epoch, s.free, s.stopped, s.wrote = *e.Owner, e.Seq, 0, false, 0
			b.asked = b.asked || b.left
		}
	case e.Member != nil && e.Removed:
		delete(b.members, e.ID)
		if e.ID == b.cfg.ID { // somebody has deleted it: it is put back behind that
			b.seq = e.Seq
		}
	case e.Member != nil:
		if e.ID == b.cfg.ID {
			out = b.seeOwn(e)
		}
		b.members[e.ID] = &member{*e.Member, b.own.Tick}
	}
	return out
}

// seeOwn takes the own record in. That a beat is in the log proves that whatever came before it has been seen.
func (b *Bridge) seeOwn(e Entry) []any {
	b.seq = e.Seq
	if e.Member.Incarnation != b.cfg.Incarnation {
		if b.told && !e.Member.Left { // it lives
			return []any{Exit{e.Member.Incarnation}}
		}
		return nil
	}
	b.own, b.joined = *e.Member, true
	for _, sent := range b.beats { // one that comes late is a proof, too: else nobody would own anything while the log is slow
		if sent.beat == e.Member.Beat {
			b.proof = max(b.proof, sent.at)
		}
	}
	return nil
}

// decide claims, starts, stops and releases.
func (b *Bridge) decide(now Time) (out []any) {
	if !b.told || !b.joined {
		return nil
	}
	want, stopping := b.wanted(now), 0
	for p := range b.shards {
		if b.shards[p].stopping {
			stopping++
		}
	}
	for p := range b.shards {
		switch s := &b.shards[p]; {
		case s.stopping:
		case s.running != 0 && (!b.mine(p) || s.epoch != s.running):
			s.stopping = true
			out = append(out, Stop{p, s.running, true})
		case s.running != 0 && want[p] != b.cfg.ID && (stopping < moves || b.left):
			s.stopping = true
			stopping++
			out = append(out, Stop{p, s.running, false})
		case s.running != 0:
		case b.owns(s) && (s.stopped || b.left):
			out = b.write(out, now, p, Shard{For: want[p]})
		case b.mine(p):
			s.running = s.epoch
			out = append(out, Start{p, s.epoch})
		case want[p] == b.cfg.ID && b.gone(s, now) && !b.Suspect(now):
			out = b.write(out, now, p, Shard{Owner: b.cfg.ID, Incarnation: b.cfg.Incarnation})
		}
	}
	return out
}

// write writes a shard's record, and again after a beat if the log does not have it. That is no harm: the sequence that it
// expects is there once.
func (b *Bridge) write(out []any, now Time, p int, to Shard) []any {
	s := &b.shards[p]
	if s.wrote != 0 && now-s.wrote < b.cfg.Beat {
		return out
	}
	s.wrote = now
	return append(out, Write{Owner: &to, Shard: p, Expect: s.epoch})
}

// wanted is the plan for those who take part. Who has not claimed what it should is left out for a while.
func (b *Bridge) wanted(now Time) []string {
	owners := make([]string, len(b.shards))
	for p := range b.shards {
		s := &b.shards[p]
		switch {
		case !b.gone(s, now):
			owners[p] = s.Owner
		case s.free == 0:
			s.free = max(b.own.Tick, 1)
		}
	}
	want := plan(owners, b.eligible(now))
	for p := range b.shards {
		if s := &b.shards[p]; owners[p] == "" && want[p] != b.cfg.ID && want[p] != "" && b.own.Tick-s.free >= wedgedAfter {
			b.passed[want[p]] = b.own.Tick + passedOver
			return b.wanted(now)
		}
	}
	return want
}

// eligible are the members that may get shards. Those that are drained or away get some only while there is nobody else.
func (b *Bridge) eligible(now Time) []string {
	var active, rest []string
	for _, id := range slices.Sorted(maps.Keys(b.members)) {
		m, me := b.members[id], id == b.cfg.ID
		switch {
		case m.Left, me && b.left, !me && (b.passed[id] > b.own.Tick || b.rules.dead(b, m, now)):
		case b.drains[id] || m.Away:
			rest = append(rest, id)
		default:
			active = append(active, id)
		}
	}
	if len(active) == 0 {
		return rest
	}
	return active
}

// gone reports whether a shard has no owner that lives.
func (b *Bridge) gone(s *shard, now Time) bool {
	m := b.members[s.Owner]
	return s.Owner == "" || m == nil || m.Left || m.Incarnation != s.Incarnation || s.Owner != b.cfg.ID && b.rules.dead(b, m, now)
}

func (b *Bridge) owns(s *shard) bool {
	return s.Owner == b.cfg.ID && s.Incarnation == b.cfg.Incarnation
}

// mine reports whether the log, as far as it was seen, and the streams say that a shard is this bridge's.
func (b *Bridge) mine(p int) bool {
	s := &b.shards[p]
	return b.owns(s) && s.fenced != s.epoch
}

// Verified reports whether the bridge may CONNECT for a shard's Things that had no connection at a time or later. It is
// the only proof of ownership that counts: a beat that was sent after that is in the log.
func (b *Bridge) Verified(p int, since Time) bool { return b.rules.verified(b, p, since) }

// Suspect reports whether the bridge has no fresh proof that it takes part. Then it claims nothing.
func (b *Bridge) Suspect(now Time) bool { return b.proof < 0 || now-b.proof > suspectAfter*b.cfg.Beat }

// Away reports whether the bridge gives its shards away because it does not reach the broker and others do.
func (b *Bridge) Away() bool { return b.away }

// Joined reports whether the bridge has seen the log up to a beat of its own.
func (b *Bridge) Joined() bool { return b.joined }

// Released reports whether nothing is this bridge's any more, and the log has its word that it leaves.
func (b *Bridge) Released() bool { return b.own.Left }

// Owner returns who owns a shard, and whether the log says that it lives.
func (b *Bridge) Owner(p int, now Time) (owner Shard, lives bool) {
	s := &b.shards[p]
	return s.Shard, s.Owner != "" && !b.gone(s, now)
}

// Standing is what a bridge knows of another.
type Standing struct {
	ID       string
	Draining bool
	Dead     bool
	Shards   int
	Member
}

// Members lists all whose records are in the log, by id.
func (b *Bridge) Members(now Time) (out []Standing) {
	for id, m := range b.members {
		s := Standing{ID: id, Draining: b.drains[id], Member: m.Member, Dead: id != b.cfg.ID && b.rules.dead(b, m, now)}
		for p := range b.shards {
			if b.shards[p].Owner == id && b.shards[p].Incarnation == m.Incarnation {
				s.Shards++
			}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Standing) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Proved returns how old the newest proof is that the bridge takes part.
func (b *Bridge) Proved(now Time) Time { return now - max(b.proof, b.since) }
