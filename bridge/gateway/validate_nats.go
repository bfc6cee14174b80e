package gateway

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nkeys"

	"fleetbridge/bridge/local/bus"
	"fleetbridge/mapping"
)

func (v *validator) nats() {
	n := &v.NATS
	v.tls("nats.tls", &n.TLS)
	v.listenTLS("nats.embedded.tls", &n.Embedded.TLS)
	if n.CredsFile != "" {
		n.CredsFile = v.join("nats.creds_file", n.CredsFile)
		v.creds()
	}
	if _, err := mapping.NewSubjects(n.Prefix); err != nil {
		v.problem("nats.prefix", "%s", err)
	} else if strings.HasPrefix(n.Prefix, "_") {
		v.problem("nats.prefix", "%q begins with _, as inboxes and the bridge's own subjects do: write another, such as fleets", n.Prefix)
	}
	v.between("nats.replicas", n.Replicas, 1, 5)
	v.bytes("nats.up.max_bytes", n.Up.MaxBytes)
	v.bytes("nats.down.max_bytes", n.Down.MaxBytes)
	v.age("nats.up.max_age", n.Up.MaxAge)
	v.age("nats.down.max_age", n.Down.MaxAge)
	n.Embedded.StoreDir = v.join("nats", n.Embedded.StoreDir)
	if v.broken("nats.url") {
		return
	}
	if n.URL == "" {
		v.embedded()
	} else {
		v.external()
	}
}

// cluster checks this bridge's place among others.
func (v *validator) cluster() {
	c := &v.Cluster
	switch {
	case v.broken("cluster.shards"):
		return
	case c.Shards == 0:
		if v.set("cluster.id") {
			v.warn("cluster.id", "is not used: cluster.shards is 0, write 1 for an active bridge and others that stand by, or 2 to 64 for bridges that share the Things")
		}
		return
	case c.Shards < 0 || c.Shards > maxShards:
		v.problem("cluster.shards", "is %d: write 1 for an active bridge and others that stand by, 2 to %d for bridges that share the Things, or 0 for a bridge alone", c.Shards, maxShards)
	case v.NATS.URL == "" && !v.broken("nats.url"):
		v.problem("cluster.shards", "is %d, but the embedded server is no other bridge's: write nats.url of the cluster's NATS servers, or cluster.shards: 0", c.Shards)
	}
	if c.ID == "" && !v.broken("cluster.id") {
		name, err := os.Hostname()
		if err != nil {
			v.problem("cluster.id", "is missing, and the host's name can't be had (%s): write a name that no other bridge has", err)
		}
		c.ID = name
	}
	if len(c.ID) > maxBridgeID || strings.ContainsFunc(c.ID, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(c.ID) {
		v.problem("cluster.id", "%.80q: write 1 to %d bytes of printable text", c.ID, maxBridgeID)
	}
	if c.Beat < 100*time.Millisecond || c.Beat > 2*time.Second {
		v.problem("cluster.beat", "is %s, write 100ms to 2s", shortDuration(c.Beat))
	}
	if c.BrokerGrace != 0 && (c.BrokerGrace < time.Second || c.BrokerGrace > time.Hour) {
		v.problem("cluster.broker_grace", "is %s, write 1s to 1h, or 0 for ever", shortDuration(c.BrokerGrace))
	}
}

// maxShards bounds what a takeover has to do: each shard has markers of its own in five streams.
const maxShards = 64

// maxBridgeID keeps a bridge's key in NATS short.
const maxBridgeID = 60

// external checks what belongs to a NATS server elsewhere.
func (v *validator) external() {
	url, err := ParseNATS(string(v.NATS.URL))
	if err != nil {
		v.problem("nats.url", "%s", err)
		return
	}
	v.NATS.URL = NATSURL(url)
	for _, key := range []string{"nats.embedded.listen", "nats.embedded.tls", "nats.embedded.sync"} {
		if v.set(key) {
			v.warn(key, "is not used: nats.url names another server")
		}
	}
}

// embedded checks what belongs to the server in this process.
func (v *validator) embedded() {
	e := &v.NATS.Embedded
	if v.NATS.CredsFile != "" {
		v.problem("nats.creds_file", "is for nats.url, which is empty: remove one or write the other")
	}
	if v.NATS.TLS != (TLS{}) {
		v.problem("nats.tls", "is for nats.url, which is empty: remove one or write the other")
	}
	if v.NATS.Replicas > 1 {
		v.problem("nats.replicas", "is %d, the embedded server keeps one copy: write 1, or nats.url of a cluster", v.NATS.Replicas)
	}
	if e.StoreDir == v.dir {
		v.problem("nats.embedded.store_dir", "is the directory of this file, name one of its own")
	}
	if !v.listen("nats.embedded.listen", e.Listen) {
		return
	}
	if host, _ := hostPort(e.Listen); !loopback(host) && len(v.Local.Users) == 0 && !v.broken("local") {
		v.problem("nats.embedded.listen", "%q can be reached from other machines and local.users is empty: add users, or listen on 127.0.0.1", e.Listen)
	}
}

func (v *validator) users() {
	names, nkeyOwners := map[string]string{}, map[string]string{}
	v.known = map[string]bool{}
	for _, t := range v.Things {
		v.known[t.Name] = true
		v.names = append(v.names, t.Name)
	}
	for i := range v.Local.Users {
		u, at := &v.Local.Users[i], v.userAt[i]
		if v.misshapen(at) {
			continue
		}
		v.loginName(names, u.Name, at)
		v.login(u, at)
		if first, taken := nkeyOwners[u.NKey]; taken && u.NKey != "" {
			v.problem(at+".nkey", "is the key of %s already", v.spell(first, at))
		}
		nkeyOwners[u.NKey] = at
		v.scope(u, at)
	}
	v.bus()
}

// loginName checks a user's name, and that no user before it has the same.
func (v *validator) loginName(names map[string]string, name, at string) {
	switch first, taken := names[name]; {
	case v.broken(at + ".name"):
	case name == "":
		v.problem(at+".name", "is missing")
	case mapping.Token(name) != name:
		v.problem(at+".name", "%q: use A-Z a-z 0-9 _ - only", name)
	case taken:
		v.problem(at+".name", "%q is the name of %s already", name, v.spell(first, at))
	default:
		names[name] = at
	}
}

func (v *validator) bus() {
	subjects, err := mapping.NewSubjects(v.NATS.Prefix)
	if err != nil || v.broken("local.bus") { // which has been said
		return
	}
	for i := range v.Local.Bus {
		if at := v.item("local.bus", i); !v.broken(at) {
			v.each(at, bus.Check(subjects, v.Local.Bus, i))
		}
	}
}

// login asks for exactly one way to log in. Neither passwords nor keys are quoted: somebody may have
// written the seed in the place of the public key.
func (v *validator) login(u *User, at string) {
	var given []string
	for _, way := range []struct {
		name string
		set  bool
	}{{"password", u.Password != ""}, {"password_file", u.PasswordFile != ""}, {"nkey", u.NKey != ""}} {
		if way.set {
			given = append(given, way.name)
		}
	}
	broken := v.broken(at+".password") || v.broken(at+".password_file") || v.broken(at+".nkey")
	switch {
	case broken:
	case len(given) == 0:
		v.problem(at, "has no login, write password_file: PATH or nkey: U…")
	case len(given) > 1:
		v.problem(at+"."+given[len(given)-1], "is given beside %s, keep one of them", strings.Join(given[:len(given)-1], " and "))
	case u.PasswordFile != "":
		v.secret(at, "password", &u.Password, &u.PasswordFile)
	case strings.HasPrefix(u.NKey, "S"):
		v.problem(at+".nkey", "is a seed, which stays with the program: write its public key, which begins with U")
	case u.NKey != "" && !nkeys.IsValidPublicUserKey(u.NKey):
		v.problem(at+".nkey", "is no public user key: 56 characters that begin with U")
	}
}

// scope checks which Things a user may act for, and how.
func (v *validator) scope(u *User, at string) {
	if !v.set(at+".things") && len(u.Things) == 0 {
		u.Things = v.names
	}
	for i, name := range u.Things {
		path := v.item(at+".things", i)
		if v.known[name] || v.broken(path) {
			continue
		}
		hint := "add it to things"
		if near := v.closestThing(name); near != "" {
			hint = "did you mean " + near + "?"
		}
		v.problem(path, "%q is no configured Thing, %s", name, hint)
	}
	for key, n := range map[string]int{"things": len(u.Things), "allow": len(u.Allow)} {
		if path := at + "." + key; n == 0 && v.set(path) && !v.broken(path) {
			v.problem(path, "is empty, so the user could do nothing: list some, or remove the key to allow all")
		}
	}
}

// maxHints bounds how often, and among how many, a similar name is looked for: a comparison takes microseconds.
const maxHints = 1000

func (v *validator) closestThing(name string) string {
	if v.hints++; v.hints > maxHints/10 || len(v.names) > maxHints {
		return ""
	}
	return Closest(name, v.names)
}

func (v *validator) bytes(path string, s Size) {
	if s <= 0 {
		v.problem(path, "is %s, write a size of more than 0, such as 256MiB", s)
	}
}

// age checks the age limit of a stream, which is at least a second or none.
func (v *validator) age(path string, d time.Duration) {
	if d < 0 || d > 0 && d < time.Second {
		v.problem(path, "is %s, write at least 1s, or 0 for no limit", shortDuration(d))
	}
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
