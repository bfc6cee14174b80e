package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"
	"github.com/tidwall/gjson"
	"golang.org/x/crypto/bcrypt"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/clerk"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/letters"
	"fleetbridge/bridge/local/storedir"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

func TestUserCheck(t *testing.T) {
	t.Parallel()
	good := access.User{Name: "hvac", Password: "p", Things: []mapping.Thing{"a"}}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		want   string
		change func(*access.User)
	}{
		{`name ""`, func(u *access.User) { u.Name = "" }},
		{`name "a.b": use A-Z`, func(u *access.User) { u.Name = "a.b" }},
		{"the bridge's own", func(u *access.User) { u.Name = "_fleetbridge" }},
		{"neither password nor nkey", func(u *access.User) { u.Password = "" }},
		{"both password and nkey", func(u *access.User) { u.NKey = "U" }},
		{"looks like a bcrypt hash", func(u *access.User) { u.Password = "$2a$10$short" }},
		{"password has 73 bytes", func(u *access.User) { u.Password = strings.Repeat("p", 73) }},
		{`nkey "SU" is no public user key`, func(u *access.User) { u.Password, u.NKey = "", "SU" }},
		{"things is empty", func(u *access.User) { u.Things = nil }},
		{`allow has "write", choose from report, events`, func(u *access.User) { u.Allow = []string{"report", "write"} }},
	} {
		u := good
		c.change(&u)
		if err := u.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	j := newJournal(t)
	_, err := embedded.Start(embedded.Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), Users: []access.User{good, good, {Name: "x"}}, Subjects: subjects(t), Log: j.log()})
	if err == nil || !containsAll(err.Error(), []string{"hvac: stands twice", "user x: has neither"}) {
		t.Errorf("error %v", err)
	}
}

func withUsers(t *testing.T, users ...access.User) *rig {
	t.Helper()
	return withUsersAt(t, StoreConfig{}, users...)
}

func withUsersAt(t *testing.T, store StoreConfig, users ...access.User) *rig {
	t.Helper()
	return withUsersAs(t, 0, embedded.Config{}, store, users...)
}

func withUsersAs(t *testing.T, interval time.Duration, server embedded.Config, store StoreConfig, users ...access.User) *rig {
	t.Helper()
	for i := range users {
		if users[i].Password == "" && users[i].NKey == "" {
			users[i].Password = "secret"
		}
		if users[i].Things == nil {
			users[i].Things = []mapping.Thing{"a"}
		}
	}
	store.Things = []mapping.Thing{"a", "b"}
	server.Users = users
	r := newRigOn(t, interval, server, store)
	clerk, err := clerk.Serve(r.nc, r.subjects, users, nil, r.journal.log())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(clerk.Close)
	return r
}

func (r *rig) login(name string, options ...nats.Option) *nats.Conn {
	return r.program(append(options, nats.UserInfo(name, "secret"), nats.CustomInboxPrefix("_INBOX_"+name))...)
}

// may tells whether the server lets the program do it.
func may(t *testing.T, nc *nats.Conn, verb, subject string) bool {
	t.Helper()
	var err error
	if verb == "ask" { // whatever is asked is answered, if only with a refusal
		m, err := nc.Request(subject, nil, patience)
		if err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
		return gjson.GetBytes(m.Data, "error.code").Int() != 403 && m.Header.Get(micro.ErrorCodeHeader) != "403"
	}
	if verb == "pub" {
		err = nc.Publish(subject, nil)
	} else {
		_, err = nc.SubscribeSync(subject)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil { // the refusal comes before the answer to this
		t.Fatal(err)
	}
	last := nc.LastError()
	kind := map[string]string{"pub": "publish to ", "sub": "subscription to "}[verb]
	return last == nil || !strings.Contains(strings.ToLower(last.Error()), kind+`"`+strings.ToLower(subject)+`"`)
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	var users []access.User
	for _, a := range access.Allowances {
		users = append(users, access.User{Name: a, Allow: []string{a}})
	}
	r := withUsers(t, append(users, access.User{Name: "all"}, access.User{Name: "other", Things: []mapping.Thing{"b"}})...)
	r.journal.forgive("Violation")
	if _, err := r.nc.Subscribe("fleets.req.>", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	owners := map[string]string{ // who but "all" may
		"pub fleets.up.a.shadow.update":                      "report",
		"ask fleets.req.a.shadow.update":                     "report",
		"ask fleets.req.a.shadow.get":                        "report",
		"pub fleets.up.a.events.x":                           "events",
		"ask fleets.req.a.events.x":                          "events",
		"pub fleets.up.a.commands.e.response":                "commands",
		"ask fleets.req.a.commands.e.response":               "commands",
		"sub fleets.cmd.a.purge":                             "commands",
		"sub fleets.cmd.a.>":                                 "commands",
		"sub fleets.down.a.commands.>":                       "commands read",
		"sub $SRV.PING":                                      "commands",
		"pub $SRV.PING":                                      "report events commands jobs",
		"pub $SRV.INFO.fleetbridge":                          "report events commands jobs",
		"pub $SRV.STATS":                                     "commands", // its own services'
		"pub _fleets.reply.a.x":                              "commands",
		"pub _INBOX_all.x":                                   "-",
		"pub fleets.up.a.jobs.get":                           "jobs",
		"ask fleets.req.a.jobs.j.update":                     "jobs",
		"sub fleets.down.a.jobs.>":                           "jobs read",
		"sub fleets.down.a.>":                                "read",
		"ask $JS.API.STREAM.INFO.KV_FLEETS_SHADOW":           "read",
		"pub fleets.down.a.jobs.notify":                      "-",
		"pub _fleets.down.a.jobs.notify":                     "-",
		"pub fleets.cmd.a.purge":                             "-",
		"pub fleets.up.b.events.x":                           "-",
		"ask fleets.req.b.jobs.get":                          "-",
		"sub fleets.down.b.>":                                "-",
		"sub fleets.down.>":                                  "-",
		"sub fleets.cmd.b.>":                                 "-",
		"sub fleets.up.>":                                    "-",
		"sub fleets.dead.>":                                  "-",
		"sub _INBOX.>":                                       "report events commands jobs read",
		"sub _INBOX_other.>":                                 "-",
		"sub >":                                              "-",
		"pub $KV.FLEETS_SHADOW.a":                            "-",
		"ask $JS.API.CONSUMER.CREATE.FLEETS_DOWN.x":          "read",
		"ask $JS.API.CONSUMER.CREATE.FLEETS_UP_CONTROL.x":    "-",
		"ask $JS.API.CONSUMER.CREATE.FLEETS_DEAD.x":          "-",
		"ask $JS.API.CONSUMER.CREATE.KV_FLEETS_EXECUTIONS.x": "-",
		"pub _fleets.reply.b.x":                              "-",
		"pub _fleets.api.all.INFO":                           "-",
		"sub _fleets.deliver.all.>":                          "-",
		"ask $JS.API.STREAM.PURGE.FLEETS_DOWN":               "-",
		"ask $JS.API.STREAM.CREATE.mine":                     "-",
		"ask $JS.API.STREAM.INFO.FLEETS_UP_CONTROL":          "-",
		"ask $JS.API.STREAM.DELETE.FLEETS_DOWN":              "-",
		"ask $JS.API.STREAM.MSG.DELETE.FLEETS_DOWN":          "-",
		"ask $JS.API.CONSUMER.PAUSE.FLEETS_DOWN.x":           "-",
		"ask $JS.API.META.LEADER.STEPDOWN":                   "-",
		"ask $JS.API.STREAM.MSG.GET.FLEETS_DOWN":             "read",
		"ask $JS.API.STREAM.MSG.GET.KV_FLEETS_MARKS":         "-",
		"pub $JS.ACK.FLEETS_UP_CONTROL.a.1.1.1.1.1":          "-",
		"pub fleets.dead.up.a.events.x":                      "-",
	}
	for _, user := range append(access.Allowances[:], "all") {
		nc := r.login(user)
		for what, owner := range owners {
			verb, subject, _ := strings.Cut(what, " ")
			want := strings.Contains(" "+owner+" ", " "+user+" ") || user == "all" && (owner != "-" || subject == "_INBOX_all.x")
			if got := may(t, nc, verb, subject); got != want {
				t.Errorf("%s: %s: %v", user, what, got)
			}
		}
	}
	other := r.login("other")
	for _, what := range []string{"pub fleets.up.b.events.x", "sub fleets.down.b.>", "sub _INBOX_other.>"} {
		verb, subject, _ := strings.Cut(what, " ")
		if !may(t, other, verb, subject) {
			t.Errorf("other: %s is refused", what)
		}
	}
}

func TestWhatUsersDo(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "all"})
	nc := r.login("all")
	ctx := testContext(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if ack, err := js.Publish(ctx, "fleets.up.a.events.x", []byte(`{}`)); err != nil || ack.Sequence == 0 {
		t.Errorf("publish: %+v, %v", ack, err)
	}
	if err := r.store.Shadow().PutNoted(ctx, "a", []byte("shadow"), nil); err != nil {
		t.Fatal(err)
	}
	r.seen()
	kv, err := js.KeyValue(ctx, "FLEETS_SHADOW")
	if err != nil {
		t.Fatal("bind:", err)
	}
	if entry, err := kv.Get(ctx, "a"); err != nil || string(entry.Value()) != "shadow" {
		t.Errorf("get: %v, %v", entry, err)
	}
	down(t, r, bridge.Message{Address: mapping.Address{Thing: "a", Channel: mapping.JobsNotify}, Payload: []byte("hint")})
	m, err := nc.Request("$JS.API.DIRECT.GET.FLEETS_DOWN.fleets.down.a.jobs.notify", nil, patience)
	if err != nil || string(m.Data) != "hint" {
		t.Errorf("replay: %v, %v", m, err)
	}
	service, err := micro.AddService(nc, micro.Config{Name: "purger", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := service.AddEndpoint("purge", micro.HandlerFunc(func(q micro.Request) { _ = q.Respond([]byte("done")) }), micro.WithEndpointSubject("fleets.cmd.a.purge")); err != nil {
		t.Fatal(err)
	}
	_ = nc.Flush()
	reply, err := call(ctx, r, bridge.Call{Thing: "a", Action: "purge", Execution: "e"})
	if err != nil || string(reply.Payload) != "done" {
		t.Errorf("command: %+v, %v", reply, err)
	}
	if nc.LastError() != nil {
		t.Error(nc.LastError())
	}
}

func TestLogins(t *testing.T) {
	t.Parallel()
	key, _ := nkeys.CreateUser()
	public, _ := key.PublicKey()
	r := withUsers(t, access.User{Name: "word"}, access.User{Name: "key", NKey: public})
	r.journal.forgive("authentication error")
	for _, c := range []struct {
		name string
		ok   bool
		with []nats.Option
	}{
		{"nobody", false, nil},
		{"wrong password", false, []nats.Option{nats.UserInfo("word", "wrong")}},
		{"password", true, []nats.Option{nats.UserInfo("word", "secret")}},
		{"nkey", true, []nats.Option{nats.Nkey(public, key.Sign)}},
	} {
		nc, err := nats.Connect(r.server.URL(), c.with...)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if nc != nil {
			nc.Close()
		}
	}
	for _, line := range r.journal.said() {
		if strings.Contains(line, "secret") {
			t.Errorf("logged: %s", line)
		}
	}
}

func TestOperator(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "a"})
	path := filepath.Join(r.dir, "operator.nk")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	before, _ := os.ReadFile(path)
	r.stop()
	r.start(embedded.Config{Users: []access.User{{Name: "a", Password: "secret", Things: []mapping.Thing{"a"}}}}, StoreConfig{})
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the operator's key changed")
	}
	bury(t, r, upLetter(`{}`))
	login, err := storedir.OperatorLogin(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := wire.Dial(testContext(t), wire.DialConfig{URL: r.server.URL(), Log: r.journal.log(), Options: []nats.Option{login}})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	d, err := letters.New(nc, r.subjects)
	if err != nil {
		t.Fatal(err)
	}
	if page := selected(t, d, letters.Selection{}); len(page) != 1 {
		t.Errorf("%v", page)
	}
	if failed := d.Replay(testContext(t), 1); len(failed) != 0 {
		t.Error(failed)
	}
	nc.Close()
	r.stop()
	r.start(embedded.Config{}, StoreConfig{})
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("the operator's key stays without users")
	}
	if login, err = storedir.OperatorLogin(r.dir); err != nil {
		t.Fatal(err)
	}
	r.program(login).Close()
}

// TestFirstUser: a store that was filled without users is the same store with them, and the other way
// round.
func TestFirstUser(t *testing.T) {
	t.Parallel()
	r := newRig(t, "a")
	r.publish(r.program(), "fleets.up.a.events.x", "before")
	for _, users := range [][]access.User{{{Name: "alice", Password: "secret", Things: []mapping.Thing{"a"}}}, nil} {
		r.stop()
		r.start(embedded.Config{Users: users}, StoreConfig{Things: []mapping.Thing{"a"}})
		q, stop := r.run("a", mapping.Events)
		if d := next(t, q); string(d.Payload) != "before" {
			t.Errorf("with %d users: %s", len(users), d.Payload)
		}
		stop()
	}
}

// TestUsersOutliveAFullDisk: JetStream is stopped and started in place, and users have what they had.
func TestUsersOutliveAFullDisk(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "alice"})
	r.journal.forgive("NATS connection lost")
	nc := r.login("alice")
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(0)
	for range 3 {
		ack, err := js.Publish(testContext(t), "fleets.up.a.events.x", []byte(`{}`))
		if err != nil || ack.Sequence <= last {
			t.Fatalf("%+v, %v", ack, err)
		}
		last = ack.Sequence
		if _, err := js.KeyValue(testContext(t), "FLEETS_SHADOW"); err != nil {
			t.Fatal(err)
		}
		start := r.stopJetStream()
		start()
	}
	if nc.LastError() != nil {
		t.Error(nc.LastError())
	}
}

// TestManyUsers: fifty users with a hundred Things each don't keep the bridge from starting.
func TestManyUsers(t *testing.T) {
	var things []mapping.Thing
	for i := range 100 {
		things = append(things, mapping.Thing(fmt.Sprintf("thing %d", i)))
	}
	var users []access.User
	for i := range 50 {
		users = append(users, access.User{Name: fmt.Sprintf("user-%d", i), Password: "secret", Things: things})
	}
	j, start := newJournal(t), time.Now()
	s, err := embedded.Start(embedded.Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), Users: users, Subjects: subjects(t), Log: j.log()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	if took := time.Since(start); took > patience {
		t.Errorf("the start took %s", took)
	} else {
		t.Logf("the start took %s", took)
	}
}

// TestHashedPassword: the configuration may hold a bcrypt hash instead of the password.
func TestHashedPassword(t *testing.T) {
	t.Parallel()
	hash, err := access.User{Password: "secret"}.Hash(bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	r := withUsers(t, access.User{Name: "alice", Password: hash})
	r.journal.forgive("authentication error")
	r.login("alice")
	if nc, err := nats.Connect(r.server.URL(), nats.UserInfo("alice", hash)); err == nil {
		nc.Close()
		t.Error("the hash is taken for the password")
	}
}
