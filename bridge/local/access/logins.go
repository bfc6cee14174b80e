package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"slices"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"fleetbridge/bridge/local/door"
	"fleetbridge/mapping"
)

// Logins decides who may log in, and as whom. The server has users of its own, but takes them at its start, or
// with all its other options at once, for which it takes everybody's imports down for a moment.
type Logins struct {
	subjects mapping.Subjects
	log      *slog.Logger
	nats     *server.Server  // set before anybody connects, as global is
	global   *server.Account // where the bridge and the operator are
	own      map[string]bool // their public keys
	key      []byte          // of this process; digests are of no use elsewhere
	guesses  *guesses
	door     *door.Door      // nil before Listen
	nobodys  *server.Account // takes no connection; who has no room is refused by it

	changing sync.Mutex // of the users' accounts; taken before mu
	stopping chan struct{}
	running  sync.WaitGroup

	mu    sync.RWMutex
	known map[string]*login // by user name
	keys  map[string]*login // by public key
}

// login is one user as the server knows it.
type login struct {
	Membership
	digest []byte // of a password in clear; nil with a key or a hash
	as     *server.User
	things map[string]bool // by token
	whole  bool            // it may send everything up
}

// NewLogins makes a doorkeeper that knows the bridge itself, whose key is new at each start, and the operator,
// whose key is kept in the store directory.
func NewLogins(s mapping.Subjects, log *slog.Logger, own ...nkeys.KeyPair) (*Logins, error) {
	l := &Logins{subjects: s, log: log, stopping: make(chan struct{}), own: map[string]bool{}, key: make([]byte, sha256.Size), guesses: newGuesses(), known: map[string]*login{}, keys: map[string]*login{}}
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
func (l *Logins) make(u User, account *server.Account) *login {
	g := u.grants(l.subjects)
	out := &login{Membership: Membership{User: u, Given: u.Things}, as: &server.User{Username: u.Name, Account: account, Permissions: g.permissions()}, things: map[string]bool{}, whole: g.whole()}
	for _, t := range u.Things {
		out.things[mapping.Token(string(t))] = true
	}
	if u.NKey == "" && !isHash(u.Password) {
		out.digest = l.digest(u.Password)
	}
	return out
}

// digest is what is kept of a password that the configuration has in clear anyway.
func (l *Logins) digest(password string) []byte {
	h := hmac.New(sha256.New, l.key)
	_, _ = h.Write([]byte(password))
	return h.Sum(nil)
}

// set replaces all users. Whoever logs in from then on is one of these.
func (l *Logins) set(all []*login) {
	known, keys := map[string]*login{}, map[string]*login{}
	var hashes []string
	for _, one := range all {
		known[one.User.Name] = one
		if one.hashed() {
			hashes = append(hashes, one.User.Password)
		}
		if one.User.NKey != "" {
			keys[one.User.NKey] = one
		}
	}
	l.guesses.set(hashes)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.keys = known, keys
}

// Open is called when programs may come.
func (l *Logins) Open(d *door.Door) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.door = d
}

// all lists the users' logins by name.
func (l *Logins) all() map[string]*login {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.known
}

// Sends reports whether a user may publish on `up` for a Thing, given by its token, and a kind. It is asked for each message.
func (l *Logins) Sends(user, thing, kind string) bool {
	one := l.all()[user]
	if one == nil || !one.things[thing] {
		return false
	}
	k, known := mapping.ParseKind(kind)
	return one.whole || known && one.User.May(allowanceOf[k])
}

// allowanceOf is what a user needs to send a kind.
var allowanceOf = [...]string{mapping.Commands: AllowCommands, mapping.Jobs: AllowJobs, mapping.Shadow: AllowReport, mapping.Events: AllowEvents}

func (l *Logins) find(o *server.ClientOpts) *login {
	if o.Nkey != "" {
		return l.keys[o.Nkey]
	}
	if one := l.known[o.Username]; one != nil && one.User.NKey == "" {
		return one
	}
	return nil
}

// Check implements the server's Authentication. Who logs in while the users change is one of the new ones, or
// comes before them and is found by who ends connections.
func (l *Logins) Check(c server.ClientAuthentication) bool {
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
	return l.find(o) == found && l.admit(c, at, door.Place{User: found.User.Name}, found.as)
}

// arrival is the connection of a client; nil when it is within the process.
func (l *Logins) arrival(c server.ClientAuthentication) *door.Arrival {
	if l.door == nil {
		return nil
	}
	return l.door.Find(c)
}

// admit lets a client in if there is room for it.
func (l *Logins) admit(c server.ClientAuthentication, at *door.Arrival, p door.Place, as *server.User) bool {
	if at != nil && !at.Enter(p) {
		c.RegisterUser(&server.User{Account: l.nobodys}) // says "maximum account active connections exceeded"
		return false
	}
	c.RegisterUser(as)
	return true
}

// proves reports whether a client is the user that it says it is. What is wrong takes as long whoever it is about.
func (l *Logins) proves(one *login, c server.ClientAuthentication, at *door.Arrival) bool {
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
		g.hash = one.User.Password
	}
	g.line = one.User.Name
	return l.guesses.check(g)
}

// hashed reports whether the password is known as a bcrypt hash only.
func (l *login) hashed() bool { return l.User.NKey == "" && l.digest == nil }

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

// Membership is a user, and the Things that it has been given the means for since its rights were last made anew: its
// own, and those that were its own and are configured no more.
type Membership struct {
	User  User
	Given []mapping.Thing
}

// Fits reports whether the user may stay as it is, but for more Things. Things that it had and has no more must not
// be configured.
func (s Membership) Fits(u User, things map[mapping.Thing]bool) bool {
	if u.Password != s.User.Password || u.NKey != s.User.NKey || !u.sameAllow(s.User) {
		return false
	}
	own := setOf(u.Things)
	return !slices.ContainsFunc(s.Given, func(t mapping.Thing) bool { return !own[t] && things[t] })
}

// Lacks lists the Things that the user has to be given.
func (s Membership) Lacks(u User) (out []mapping.Thing) {
	given := setOf(s.Given)
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
