package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/bcrypt"

	"fleetbridge/mapping"
)

// What a User may be allowed.
const (
	AllowReport   = "report"
	AllowEvents   = "events"
	AllowCommands = "commands"
	AllowJobs     = "jobs"
	AllowRead     = "read"
)

// Allowances lists all that a User may be allowed.
var Allowances = [...]string{AllowReport, AllowEvents, AllowCommands, AllowJobs, AllowRead}

// User is the login of a local program on the embedded server.
type User struct {
	Name     string // A-Z a-z 0-9 _ -; also the end of the inbox prefix _INBOX_{name}
	Password string // either this
	NKey     string // or the public key of an NKey user, U…
	Things   []mapping.Thing
	Allow    []string // of Allowances; empty: all
}

// InboxPrefix is where the user's replies go; clients must be told to use it.
func (u User) InboxPrefix() string { return "_INBOX_" + u.Name }

// Check tells what is wrong with the user, as far as one user shows it.
func (u User) Check() error {
	switch {
	case u.Name == "" || mapping.Token(u.Name) != u.Name:
		return fmt.Errorf("name %q: use A-Z a-z 0-9 _ -", u.Name)
	case strings.HasPrefix(u.Name, reservedUser):
		return fmt.Errorf("name %q: names that begin with %s are the bridge's own", u.Name, reservedUser)
	case u.Password == "" && u.NKey == "":
		return fmt.Errorf("user %s: has neither password nor nkey, give one", u.Name)
	case u.Password != "" && u.NKey != "":
		return fmt.Errorf("user %s: has both password and nkey, give one", u.Name)
	case len(u.Password) > 72:
		return fmt.Errorf("user %s: password has %d bytes, at most 72 are allowed", u.Name, len(u.Password))
	case u.NKey != "" && !nkeys.IsValidPublicUserKey(u.NKey):
		return fmt.Errorf("user %s: nkey %q is no public user key (U…), make one with: nk -gen user -pubout", u.Name, u.NKey)
	case len(u.Things) == 0:
		return fmt.Errorf("user %s: things is empty, name at least one", u.Name)
	}
	for _, a := range u.Allow {
		if !slices.Contains(Allowances[:], a) {
			return fmt.Errorf("user %s: allow has %q, choose from %s", u.Name, a, strings.Join(Allowances[:], ", "))
		}
	}
	return nil
}

// permissions spells what the user may do. What is not listed is refused by the server.
func (u User) permissions(s mapping.Subjects) *server.Permissions {
	p := permissions{subjects: s}
	allow := u.Allow
	if len(allow) == 0 {
		allow = Allowances[:]
	}
	p.subscribe(u.InboxPrefix() + ".>")
	for _, a := range allow {
		if a == AllowRead {
			for _, bucket := range []string{bucketShadow, bucketStatus} {
				p.publish("$JS.API.STREAM.INFO.KV_" + s.Name(bucket)) // clients look at a bucket before they use it
			}
		}
		if a == AllowCommands {
			p.subscribe("$SRV.>") // a command handler may be a NATS service
		}
		for _, t := range u.Things {
			p.allow(a, mapping.Token(string(t)))
		}
	}
	out := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: p.pub},
		Subscribe: &server.SubjectPermission{Allow: p.sub},
	}
	if len(p.pub) == 0 {
		out.Publish.Deny = []string{">"} // an empty list would allow everything
	}
	if slices.Contains(allow, AllowCommands) {
		out.Response = &server.ResponsePermission{MaxMsgs: maxReplies, Expires: replyTime}
	}
	return out
}

// A handler may reply for as long as commands commonly live, and from more than one subscription that
// matches. The server remembers each request for that long.
const (
	maxReplies = 8
	replyTime  = time.Hour
)

type permissions struct {
	subjects mapping.Subjects
	pub, sub []string
}

func (p *permissions) publish(subjects ...string)   { p.pub = append(p.pub, subjects...) }
func (p *permissions) subscribe(subjects ...string) { p.sub = append(p.sub, subjects...) }

// allow grants one allowance on one Thing.
func (p *permissions) allow(what, t string) {
	prefix := p.subjects.Prefix()
	up, req, down := prefix+".up."+t, prefix+".req."+t, prefix+".down."+t
	switch what {
	case AllowReport:
		p.publish(up+".shadow.>", req+".shadow.>")
	case AllowEvents:
		p.publish(up+".events.>", req+".events.>")
	case AllowCommands:
		p.publish(up+".commands.>", req+".commands.>")
		p.subscribe(prefix+".cmd."+t+".>", down+".commands.>")
	case AllowJobs:
		p.publish(up+".jobs.>", req+".jobs.>")
		p.subscribe(down + ".jobs.>")
	case AllowRead:
		p.subscribe(down + ".>")
		p.publish("$JS.API.DIRECT.GET." + p.subjects.Name(streamDown) + "." + down + ".>")
		for _, bucket := range []string{bucketShadow, bucketStatus} {
			name := p.subjects.Name(bucket)
			p.publish("$JS.API.DIRECT.GET.KV_" + name + ".$KV." + name + "." + t)
		}
	}
}

const reservedUser = "_fleetbridge"

// logins turns users into the server's, with two more: the bridge's own, whose key is new at each
// start, and the operator's, whose key is kept in the store directory.
func logins(users []User, s mapping.Subjects, own, operator nkeys.KeyPair) ([]*server.User, []*server.NkeyUser, error) {
	var byPassword []*server.User
	var byKey []*server.NkeyUser
	seen := map[string]bool{}
	var problems []error
	for _, u := range users {
		if err := u.Check(); err != nil {
			problems = append(problems, err)
			continue
		}
		if seen[u.Name] || u.NKey != "" && seen[u.NKey] {
			problems = append(problems, fmt.Errorf("user %s: stands twice in the list, remove one", u.Name))
			continue
		}
		seen[u.Name] = true
		if u.NKey != "" {
			seen[u.NKey] = true
			byKey = append(byKey, &server.NkeyUser{Nkey: u.NKey, Permissions: u.permissions(s)})
			continue
		}
		// The clear text is in the configuration anyway; the cheapest hash keeps it out of the server.
		hash, err := bcrypt.GenerateFromPassword([]byte(u.Password), bcrypt.MinCost)
		if err != nil {
			problems = append(problems, fmt.Errorf("user %s: password: %w", u.Name, err))
			continue
		}
		byPassword = append(byPassword, &server.User{Username: u.Name, Password: string(hash), Permissions: u.permissions(s)})
	}
	for _, key := range []nkeys.KeyPair{own, operator} {
		public, err := key.PublicKey()
		if err != nil {
			return nil, nil, err
		}
		byKey = append(byKey, &server.NkeyUser{Nkey: public})
	}
	return byPassword, byKey, errors.Join(problems...)
}

const operatorFile = "operator.nk"

// operatorKey reads the operator's key from the store directory, or makes one. The file is readable by
// its owner only.
func operatorKey(dir string) (nkeys.KeyPair, error) {
	path := filepath.Join(dir, operatorFile)
	if seed, err := os.ReadFile(path); err == nil {
		if key, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed)))); err == nil {
			return key, nil
		}
	}
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	seed, err := key.Seed()
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return key, os.WriteFile(path, append(seed, '\n'), 0o600)
}

// OperatorLogin is the option with which `fleetbridge dead` connects to an embedded server whose store
// directory it can read. Without such a file, the server has no users and needs no login.
func OperatorLogin(storeDir string) (nats.Option, error) {
	path := filepath.Join(storeDir, operatorFile)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return func(*nats.Options) error { return nil }, nil
	}
	option, err := nats.NkeyOptionFromSeed(path)
	if err != nil {
		return nil, fmt.Errorf("operator login %s: %w", path, err)
	}
	return option, nil
}
