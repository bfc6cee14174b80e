package access

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/tidwall/gjson"
	"golang.org/x/crypto/bcrypt"

	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// ACL is the accounts of an external NATS server: one for the bridge and one for each user, with the same
// rights as the embedded server gives.
type ACL struct {
	URL      string // of the server, with the bridge's login if there is one
	Users    []User
	Subjects mapping.Subjects
	Cost     int // of the bcrypt hashes; 0: bcrypt's default
}

func (a ACL) hash(u User) (string, error) { return u.Hash(cmp.Or(a.Cost, bcrypt.DefaultCost)) }

// Of the bridge on an external server.
const (
	bridgeAccount = "fleetbridge"
	bridgeUser    = "fleetbridge"
	// passwordVariable stands for the bridge's password when nats.url has none. The server takes it from
	// its environment and does not start without it.
	passwordVariable = "$FLEETBRIDGE_PASSWORD"
)

// Confined tells whether a connection to an external server is in the account that ACL has for the bridge. Then its
// users are in theirs.
func Confined(ctx context.Context, nc *nats.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, wire.APITimeout)
	defer cancel()
	answer, err := nc.RequestWithContext(ctx, "$SYS.REQ.USER.INFO", nil)
	return err == nil && gjson.GetBytes(answer.Data, "data.account").String() == bridgeAccount
}

// Print writes the accounts block of a nats-server configuration. Passwords are printed as bcrypt hashes,
// with a new salt each time.
func (a ACL) Print(w io.Writer) error {
	if err := CheckUsers(a.Users); err != nil {
		return err
	}
	for _, u := range a.Users {
		if u.Name == a.bridgeName() {
			return fmt.Errorf("user %s: is the bridge's own login in nats.url, choose another name", u.Name)
		}
	}
	p := &aclPrinter{w: bufio.NewWriter(w)}
	p.line("# The accounts of fleetbridge and of the programs in local.users, printed by fleetbridge acl.")
	p.line("# Include this in the configuration of a NATS server with JetStream, and print it again when local.users or things change.")
	p.line("# Write max_sub_tokens: %d beside it: without that one program's subscriptions can fill the server's memory.", MaxSubTokens(a.Subjects))
	p.line("accounts {")
	if err := a.bridge(p); err != nil {
		return err
	}
	for _, u := range a.Users {
		if err := a.program(p, u); err != nil {
			return err
		}
	}
	p.line("}")
	return errors.Join(p.err, p.w.Flush())
}

// login is the bridge's in the URL.
func (a ACL) login() *url.Userinfo {
	for one := range strings.SplitSeq(a.URL, ",") {
		if u, err := url.Parse(strings.TrimSpace(one)); err == nil && u.User != nil {
			return u.User
		}
	}
	return nil
}

func (a ACL) bridgeName() string {
	if u := a.login(); u != nil {
		return u.Username()
	}
	return bridgeUser
}

// bridge prints the account that holds the streams.
func (a ACL) bridge(p *aclPrinter) error {
	password := passwordVariable
	if u := a.login(); u != nil {
		clear, given := u.Password()
		if !given {
			return errors.New("nats.url: has a token instead of a user; write nats://USER:PASSWORD@HOST:PORT")
		}
		hash, err := a.hash(User{Name: u.Username(), Password: clear})
		if err != nil {
			return err
		}
		password = quoted(hash)
	}
	p.line("  %q: {", bridgeAccount)
	p.line("    jetstream: enabled")
	p.line("    users: [{user: %s, password: %s}]", quoted(a.bridgeName()), password)
	if len(a.Users) > 0 {
		names := make([]string, len(a.Users))
		for i, u := range a.Users {
			names[i] = u.Account()
		}
		accounts := list(names)
		p.line("    exports: [")
		for _, e := range serviceExports(a.Subjects) {
			more := ""
			if e.many {
				more += ", response: stream"
			}
			if e.wait > 0 {
				more += fmt.Sprintf(", response_threshold: %q", e.wait)
			}
			p.line("      {service: %s%s, accounts: %s}", quoted(e.subject), more, accounts)
		}
		for _, subject := range streamExports(a.Subjects) {
			p.line("      {stream: %s, accounts: %s}", quoted(subject), accounts)
		}
		p.line("    ]")
		p.line("    imports: [")
		for _, u := range a.Users {
			for _, l := range u.grants(a.Subjects).shown {
				p.line("      {stream: {account: %q, subject: %s}, to: %s}", u.Account(), quoted(l.here), quoted(l.there))
			}
		}
		p.line("    ]")
	}
	p.line("  }")
	return nil
}

// program prints a user's account.
func (a ACL) program(p *aclPrinter, u User) error {
	login := "nkey: " + quoted(u.NKey)
	if u.NKey == "" {
		hash, err := a.hash(u)
		if err != nil {
			return err
		}
		login = "user: " + quoted(u.Name) + ", password: " + quoted(hash)
	}
	g := u.grants(a.Subjects)
	publish := "allow: " + list(g.pub)
	if len(g.pub) == 0 {
		publish = `deny: [">"]`
	}
	p.line("  %q: {", u.Account())
	p.line("    limits: {max_subs: %d} # of a connection", MaxUserSubs)
	p.line("    users: [{%s, permissions: {", login)
	p.line("      publish: {%s}", publish)
	p.line("      subscribe: {allow: %s}", list(g.sub))
	p.line("    }}]")
	if len(g.mapped) > 0 {
		p.line("    mappings: {")
		for _, l := range g.mapped {
			p.line("      %s: %s", quoted(l.here), quoted(l.there))
		}
		p.line("    }")
	}
	p.line("    exports: [")
	for _, l := range g.shown {
		p.line("      {stream: %s, accounts: [%q]}", quoted(l.here), bridgeAccount)
	}
	p.line("    ]")
	p.line("    imports: [")
	for _, l := range g.services {
		p.line("      {service: {account: %q, subject: %s}%s}", bridgeAccount, quoted(l.there), l.to())
	}
	for _, l := range g.streams {
		p.line("      {stream: {account: %q, subject: %s}%s}", bridgeAccount, quoted(l.there), l.to())
	}
	p.line("    ]")
	p.line("  }")
	return nil
}

func (l link) to() string {
	if l.here == l.there {
		return ""
	}
	return ", to: " + quoted(l.here)
}

// aclPrinter keeps the first error.
type aclPrinter struct {
	w   *bufio.Writer
	err error
}

func (p *aclPrinter) line(format string, args ...any) {
	if _, err := fmt.Fprintf(p.w, format+"\n", args...); err != nil && p.err == nil {
		p.err = err
	}
}

// quoted is a string of the configuration's language.
func quoted(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }

func list(items []string) string {
	out := make([]string, len(items))
	for i, s := range items {
		out[i] = quoted(s)
	}
	return "[" + strings.Join(out, ", ") + "]"
}
