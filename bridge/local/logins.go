package local

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"fleetbridge/bridge/local/door"
	"fleetbridge/mapping"
)

// logins decides who may log in, and as whom. The server has users of its own, but takes them at its start, or
// with all its other options at once, for which it takes everybody's imports down for a moment.
type logins struct {
	subjects mapping.Subjects
	global   *server.Account // where the bridge and the operator are; set before anybody connects
	own      map[string]bool // their public keys
	key      []byte          // of this process; digests are of no use elsewhere
	guesses  *guesses
	door     *door.Door      // nil before Listen
	nobodys  *server.Account // takes no connection; who has no room is refused by it

	mu    sync.RWMutex
	known map[string]*login // by user name
	keys  map[string]*login // by public key
}

// login is one user as the server knows it.
type login struct {
	membership
	digest []byte // of a password in clear; nil with a key or a hash
	as     *server.User
	things map[string]bool // by token
	whole  bool            // it may send everything up
}

// newLogins makes a doorkeeper that knows the bridge itself, whose key is new at each start, and the operator,
// whose key is kept in the store directory.
func newLogins(s mapping.Subjects, own ...nkeys.KeyPair) (*logins, error) {
	l := &logins{subjects: s, own: map[string]bool{}, key: make([]byte, sha256.Size), guesses: newGuesses(), known: map[string]*login{}, keys: map[string]*login{}}
	_, _ = rand.Read(l.key) // never fails
	for _, pair := range own {
		public, err := pair.PublicKey()
		if err != nil {
			return nil, err
		}
		l.own[public] = true
	}
	return l, nil
}

// make prepares the login of a user in its account.
func (l *logins) make(u User, account *server.Account) *login {
	g := u.grants(l.subjects)
	out := &login{membership: membership{u, u.Things}, as: &server.User{Username: u.Name, Account: account, Permissions: g.permissions()}, things: map[string]bool{}, whole: g.whole()}
	for _, t := range u.Things {
		out.things[mapping.Token(string(t))] = true
	}
	if u.NKey == "" && !isHash(u.Password) {
		out.digest = l.digest(u.Password)
	}
	return out
}

// digest is what is kept of a password that the configuration has in clear anyway.
func (l *logins) digest(password string) []byte {
	h := hmac.New(sha256.New, l.key)
	_, _ = h.Write([]byte(password))
	return h.Sum(nil)
}

// set replaces all users. Whoever logs in from then on is one of these.
func (l *logins) set(all []*login) {
	known, keys := map[string]*login{}, map[string]*login{}
	var hashes []string
	for _, one := range all {
		known[one.user.Name] = one
		if one.hashed() {
			hashes = append(hashes, one.user.Password)
		}
		if one.user.NKey != "" {
			keys[one.user.NKey] = one
		}
	}
	l.guesses.set(hashes)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.keys = known, keys
}

// open is called when programs may come.
func (l *logins) open(d *door.Door) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.door = d
}

// all lists the users' logins by name.
func (l *logins) all() map[string]*login {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.known
}

// sends reports whether a user may publish on `up` for a Thing, given by its token, and a kind. It is asked for each message.
func (l *logins) sends(user, thing, kind string) bool {
	one := l.all()[user]
	if one == nil || !one.things[thing] {
		return false
	}
	k, known := mapping.ParseKind(kind)
	return one.whole || known && one.user.may(allowanceOf[k])
}

// allowanceOf is what a user needs to send a kind.
var allowanceOf = [...]string{mapping.Commands: AllowCommands, mapping.Jobs: AllowJobs, mapping.Shadow: AllowReport, mapping.Events: AllowEvents}

func (l *logins) find(o *server.ClientOpts) *login {
	if o.Nkey != "" {
		return l.keys[o.Nkey]
	}
	if one := l.known[o.Username]; one != nil && one.user.NKey == "" {
		return one
	}
	return nil
}

// Check implements the server's Authentication. Who logs in while the users change is one of the new ones, or
// comes before them and is found by who ends connections.
func (l *logins) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	l.mu.RLock()
	found, at := l.find(o), l.arrival(c)
	l.mu.RUnlock()
	if l.own[o.Nkey] {
		return signed(o, c.GetNonce()) && l.admit(c, at, door.Place{Operator: true}, &server.User{Account: l.global})
	}
	if !l.proves(found, c, at) { // which may take a while
		return false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.find(o) == found && l.admit(c, at, door.Place{User: found.user.Name}, found.as)
}

// arrival is the connection of a client; nil when it is within the process.
func (l *logins) arrival(c server.ClientAuthentication) *door.Arrival {
	if l.door == nil {
		return nil
	}
	return l.door.Find(c)
}

// admit lets a client in if there is room for it.
func (l *logins) admit(c server.ClientAuthentication, at *door.Arrival, p door.Place, as *server.User) bool {
	if at != nil && !at.Enter(p) {
		c.RegisterUser(&server.User{Account: l.nobodys}) // says "maximum account active connections exceeded"
		return false
	}
	c.RegisterUser(as)
	return true
}

// proves reports whether a client is the user that it says it is. What is wrong takes as long whoever it is about.
func (l *logins) proves(one *login, c server.ClientAuthentication, at *door.Arrival) bool {
	o := c.GetOpts()
	g := guess{password: o.Password, judged: at.Judge}
	if at != nil {
		g.gone = at.Gone
	}
	switch {
	case o.Nkey != "":
		return one != nil && signed(o, c.GetNonce())
	case one == nil:
		return l.guesses.check(g)
	case one.digest != nil && hmac.Equal(one.digest, l.digest(o.Password)):
		return true
	case one.hashed():
		g.hash = one.user.Password
	}
	g.line = one.user.Name
	return l.guesses.check(g)
}

// hashed reports whether the password is known as a bcrypt hash only.
func (l *login) hashed() bool { return l.user.NKey == "" && l.digest == nil }

// signed reports whether the client has the private key of the public one that it names.
func signed(o *server.ClientOpts, nonce []byte) bool {
	signature, err := base64.RawURLEncoding.DecodeString(o.Sig)
	if err != nil { // as the server has it
		signature, err = base64.StdEncoding.DecodeString(o.Sig)
	}
	if err != nil || len(nonce) == 0 {
		return false
	}
	public, err := nkeys.FromPublicKey(o.Nkey)
	return err == nil && public.Verify(nonce, signature) == nil
}

// membership is a user, and the Things that it has been given the means for since its rights were last made anew: its
// own, and those that were its own and are configured no more.
type membership struct {
	user  User
	given []mapping.Thing
}

// fits reports whether the user may stay as it is, but for more Things. Things that it had and has no more must not
// be configured.
func (s membership) fits(u User, things map[mapping.Thing]bool) bool {
	if u.Password != s.user.Password || u.NKey != s.user.NKey || !u.sameAllow(s.user) {
		return false
	}
	own := setOf(u.Things)
	return !slices.ContainsFunc(s.given, func(t mapping.Thing) bool { return !own[t] && things[t] })
}

// lacks lists the Things that the user has to be given.
func (s membership) lacks(u User) (out []mapping.Thing) {
	given := setOf(s.given)
	for _, t := range u.Things {
		if !given[t] {
			out = append(out, t)
		}
	}
	return out
}

func (u User) sameAllow(o User) bool {
	return within(o.allowed(), u.allowed()) && within(u.allowed(), o.allowed()) && slices.Equal(o.Bus, u.Bus)
}

func (u User) sameRights(o User) bool {
	return u.sameAllow(o) && within(u.Things, o.Things) && within(o.Things, u.Things)
}

// Same reports whether nothing about the user is new.
func (u User) Same(o User) bool {
	return u.Name == o.Name && u.Password == o.Password && u.NKey == o.NKey && u.sameRights(o)
}

// within reports whether a list holds all of another.
func within[T comparable](part, whole []T) bool {
	if slices.Equal(part, whole) {
		return true
	}
	there := setOf(whole)
	return !slices.ContainsFunc(part, func(x T) bool { return !there[x] })
}

func setOf[T comparable](list []T) map[T]bool {
	out := make(map[T]bool, len(list))
	for _, x := range list {
		out[x] = true
	}
	return out
}
