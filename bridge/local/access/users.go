package access

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

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

// User is the login of a local program.
type User struct {
	Name     string // A-Z a-z 0-9 _ -; also the end of the inbox prefix _INBOX_{name}
	Password string // either this, in clear or as a bcrypt hash ($2a$…)
	NKey     string // or the public key of an NKey user, U…
	Things   []mapping.Thing
	Allow    []string // of Allowances; empty: all
	Bus      []string // subjects that users have among themselves, the same for all; see bus.Check
}

// InboxPrefix is where clients may have the user's replies go, beside their default.
func (u User) InboxPrefix() string { return "_INBOX_" + u.Name }

// Inboxes are what the user's reply subjects may begin with: the clients' default, which is private to the user's
// account, and the user's own.
func (u User) Inboxes() []string { return []string{nats.InboxPrefix, u.InboxPrefix() + "."} }

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
	case u.Password != "" && CheckPassword(u.Password, bcrypt.MaxCost) != nil:
		return fmt.Errorf("user %s: password %w", u.Name, CheckPassword(u.Password, bcrypt.MaxCost))
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

// allowed lists what the user may do.
func (u User) allowed() []string {
	if len(u.Allow) == 0 {
		return Allowances[:]
	}
	return u.Allow
}

func (u User) May(what string) bool { return slices.Contains(u.allowed(), what) }

// Account is the name of the user's account on the server.
func (u User) Account() string { return "program-" + u.Name }

var hashPattern = regexp.MustCompile(`^\$2[abxy]\$\d{2}\$`)

// isHash tells a bcrypt hash from a password, as the server does.
func isHash(password string) bool { return hashPattern.MatchString(password) }

// CheckPassword tells what is wrong with a password, or a bcrypt hash of one, whose cost may be at most that. It does not quote it.
func CheckPassword(password string, cost int) error {
	if !isHash(password) {
		if len(password) > 72 {
			return fmt.Errorf("has %d bytes, at most 72 are allowed", len(password))
		}
		return nil
	}
	switch n, err := bcrypt.Cost([]byte(password)); {
	case err != nil:
		return fmt.Errorf("looks like a bcrypt hash, but is none: %w", err)
	case n > cost:
		return fmt.Errorf("is a bcrypt hash of cost %d, which takes too long to compare: make one of cost %d at most", n, cost)
	}
	return nil
}

// Hash is the password as the server keeps it.
func (u User) Hash(cost int) (string, error) {
	if isHash(u.Password) {
		return u.Password, nil
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(u.Password), cost)
	if err != nil {
		return "", fmt.Errorf("user %s: password: %w", u.Name, err)
	}
	return string(hash), nil
}

const reservedUser = "_fleetbridge"

// CheckUsers says everything that is wrong with a list of users.
func CheckUsers(users []User) error {
	var problems []error
	seen := map[string]bool{}
	for _, u := range users {
		if err := u.Check(); err != nil {
			problems = append(problems, err)
			continue
		}
		if seen[u.Name] || u.NKey != "" && seen[u.NKey] {
			problems = append(problems, fmt.Errorf("user %s: stands twice in the list, remove one", u.Name))
		}
		seen[u.Name], seen[u.NKey] = true, true
	}
	return errors.Join(problems...)
}
