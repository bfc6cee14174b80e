package door

import "time"

// bans keep a login out for a while whose connections the bridge has to cut again and again: each costs the server all its
// subscriptions, there and back, and everybody waits for that. The connections that it has stay.
type bans map[string]*ban // by user

type ban struct {
	cuts  int       // how often, before the first ban
	last  time.Time // when
	pause time.Duration
	until time.Time
}

const (
	// cutsPardoned is how often a login may be cut without a ban, as with a program that was started too many times.
	cutsPardoned = 16
	// leastBan is doubled each time that a login is cut again, up to mostBan.
	leastBan = 10 * time.Second
	mostBan  = 5 * time.Minute
	// cutForgotten is after which time without a cut nothing is held against a login any more.
	cutForgotten = 2 * mostBan
)

// cut notes that one connection of a login was cut, or several at a time. It returns how long the login is kept out from now
// on, and 0 when that does not change.
func (b bans) cut(user string, now time.Time) time.Duration {
	x := b[user]
	if x == nil || now.Sub(x.last) > cutForgotten {
		x = &ban{}
		b[user] = x
	}
	x.last = now
	if now.Before(x.until) {
		return 0
	}
	if x.cuts++; x.cuts <= cutsPardoned && x.pause == 0 {
		return 0
	}
	x.pause = min(max(2*x.pause, leastBan), mostBan)
	x.until = now.Add(x.pause)
	return x.pause
}

// punishLocked notes that connections are cut. Without users it is not known whose they are.
func (d *Door) punishLocked(conns ...*Arrival) {
	users := map[string]bool{}
	for _, a := range conns {
		d.told(WasCut)
		if p := a.place; a.in && !p.anybody && !p.Operator {
			users[p.User] = true
		}
	}
	for user := range users {
		if pause := d.bans.cut(user, time.Now()); pause > 0 {
			d.cfg.Log.Warn("connections of a login were closed again and again, as they take more than their share: it gets no new ones for a while", "user", user, "pause", pause)
		}
	}
}

// bannedLocked reports whether a new connection is refused because of others that were cut.
func (d *Door) bannedLocked(p Place) bool {
	x := d.bans[p.User]
	if p.anybody || p.Operator || x == nil || !time.Now().Before(x.until) {
		return false
	}
	d.told(WasRefused)
	return true
}

func (d *Door) told(p Penalty) {
	if d.cfg.Penal != nil {
		d.cfg.Penal(p)
	}
}

// Penalty is what the door does to a login that takes more than its share.
type Penalty string

const (
	WasCut     Penalty = "cut"     // a connection was closed
	WasRefused Penalty = "refused" // a new one was, because of others that were cut before
)

// Penalties are all of them.
var Penalties = [...]Penalty{WasCut, WasRefused}
