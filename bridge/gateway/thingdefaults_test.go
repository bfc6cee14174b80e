package gateway

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fleetbridge/bridge/local/registry"
)

// What a Thing leaves out comes from thing_defaults, with paths that begin at the main file; what it says holds.
func TestThingDefaults(t *testing.T) {
	c, err := loadSite(t, map[string]string{
		"gw.yaml": "mqtt: {server: 'mqtt://h'}\nthings_dir: things.d\nthing_defaults: {username: 'gw-{client_id}', password_file: 'pw/{token}'}\n" +
			"things: [{name: a.b}, {name: own, client_id: o-1, username: me, password: mine}, {name: none, username: '', password: ''}]\n",
		"things.d/x.yaml": "things: [{name: part}]\n",
		"pw/a=2Eb":        "one\n", "pw/part": "two\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, t := range c.Things {
		got = append(got, t.Name+" "+t.Username+" "+string(t.Password))
	}
	if want := []string{"a.b gw-a.b one", "own me mine", "none  ", "part gw-part two"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := c.Origin("part"); got != "things.d/x.yaml:1" {
		t.Errorf("part stands in %q", got)
	}
	_, err = loadSite(t, map[string]string{"gw.yaml": "mqtt: {server: 'mqtt://h'}\nthing_defaults: {username: '{thing}', password_file: 'pw/{name}'}\nthings: [{name: a}]\n"})
	for _, want := range []string{"gw.yaml:2:28: thing_defaults.username: {thing} stands for nothing here, write {name} or {client_id} or {token}",
		"thing_defaults.password_file: {name} stands for nothing here, write {token}"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	_, err = loadSite(t, map[string]string{"gw.yaml": "mqtt: {server: 'mqtt://h'}\nthing_defaults: {password_file: 'pw/{token}'}\nthings: [{name: a}]\n"})
	if err == nil || !strings.Contains(err.Error(), "gw.yaml:3:11: things[0].password_file: ") || !strings.Contains(err.Error(), "pw/a does not exist") {
		t.Errorf("a password that is missing: %v", err)
	}
}

// A Thing has a Thing Type as a file or by its name in Fleets. Its own of either kind holds, not that of thing_defaults.
func TestThingTypeNames(t *testing.T) {
	const head = "mqtt: {server: 'mqtt://h'}\nfleets: {url: 'https://f', api_key: k, api_secret: s}\n"
	c, err := loadSite(t, map[string]string{
		"gw.yaml": head + "thing_defaults: {thing_type_name: com.acme.pump}\nthings: [{name: a}, {name: b, thing_type: t.json}, {name: c, thing_type_name: other}]\n",
		"t.json":  `{"properties":{}}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, t := range c.Things {
		got = append(got, t.Name+" "+t.ThingType+" "+t.TypeName)
	}
	if want := []string{"a  com.acme.pump", "b t.json ", "c  other"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for things, want := range map[string]string{
		head + "things: [{name: a, thing_type: t.json, thing_type_name: x}]\n":            "things[0].thing_type_name: is given beside thing_type, keep one of them",
		"mqtt: {server: 'mqtt://h'}\nthings: [{name: a, thing_type_name: x}]\n":           "things[0].thing_type_name: needs fleets.url",
		head + "things: [{name: a, thing_type_name: " + strings.Repeat("x", 256) + "}]\n": "things[0].thing_type_name: has 256 bytes",
		head + "things: [{name: a, thing_type_name: \"a\\nb\"}]\n":                        "things[0].thing_type_name: has characters that can't be printed",
		head + "thing_defaults: {thing_type_name: '{name}'}\nthings: [{name: a}]\n":       "thing_defaults.thing_type_name: {name} stands for nothing here",
	} {
		_, err := loadSite(t, map[string]string{"gw.yaml": things, "t.json": `{"properties":{}}`})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

// A bad entry of the registry costs only itself, and its reason names the key and the mend.
func TestWithRegistry(t *testing.T) {
	c, err := loadSite(t, map[string]string{
		"gw.yaml":                  "mqtt: {server: 'mqtt://h'}\nnats: {url: 'nats://n'}\nthing_defaults: {username: '{name}', password_file: 'pw/{token}'}\nthings: [{name: first, password: p}]\n",
		"pw/good":                  "one\n",
		"pw/json":                  "two\n",
		"pw/client":                "p\n",
		"pw/schema":                "p\n",
		"pw/schema2":               "p\n",
		"pw/first":                 "p\n",
		"bad/x.y.json":             "{}",
		"bad/reported.schema.json": `{"type":7}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	entry := func(key, value string) registry.Entry {
		return registry.Entry{Key: key, Value: []byte(value)}
	}
	merged, refused := c.WithRegistry([]registry.Entry{
		entry("client", `{"name":"client","client_id":"first"}`),
		entry("empty", ``),
		entry("env", `{"name":"env","username":"${HOME}","password_file":"/etc/shadow"}`),
		entry("first", `{"name":"first"}`),
		entry("good", "name: good\nclient_id: g-1\n"),
		entry("json", `{"name":"json","username":"u"}`),
		entry("lost", `{"name":"lost"}`),
		entry("other", `{"name":"good"}`),
		entry("schema", `{"name":"schema","schema_dir":"bad"}`),
		entry("schema2", `{"name":"schema2","schema_dir":"bad"}`),
		entry("twisted", `{{{`),
		entry("typo", `{"name":"typo","usrname":"u","tls":{"cert_file":"x"}}`),
	})
	var names []string
	for _, t := range merged.Things {
		names = append(names, t.Name+" "+t.ClientID+" "+t.Username+" "+string(t.Password))
	}
	if want := []string{"first first first p", "good g-1 good one", "json json u two"}; !slices.Equal(names, want) {
		t.Errorf("taken %q, want %q", names, want)
	}
	if merged.Origin("good") != OfRegistry || len(c.Things) != 1 || c.Origin("good") != "" {
		t.Errorf("good is of %q; the configuration has %d things", merged.Origin("good"), len(c.Things))
	}
	want := map[string][]string{
		"client":  {`client_id: "first" is the client ID of first already`},
		"empty":   {"name: is missing"},
		"env":     {"username: the environment variable HOME is not set", "password_file: can't be in the registry", "thing_defaults.password_file"},
		"first":   {`name: "first" stands in gw.yaml:4, too, which holds`},
		"lost":    {"password_file: ", "pw/lost does not exist"},
		"other":   {`name: "good" belongs under the key good`},
		"schema":  {"schema_dir: "},
		"schema2": {"schema_dir: "},
		"twisted": {"is not YAML"},
		"typo":    {"usrname: is no known key, did you mean username?", "tls: can't be in the registry"},
	}
	for _, r := range refused {
		for _, text := range want[r.Key] {
			if !strings.Contains(r.Reason, text) {
				t.Errorf("%s: %q is not in %q", r.Key, text, r.Reason)
			}
		}
		if len(want[r.Key]) == 0 || r.Thing != r.Key || strings.ContainsAny(r.Reason, "\n") {
			t.Errorf("refused %+v", r)
		}
		delete(want, r.Key)
	}
	if len(want) > 0 {
		t.Errorf("not refused: %v", want)
	}
}

// What is to be added is checked beside what there is, and written as it was given, with paths that still lead there.
func TestLoadEdited(t *testing.T) {
	if _, err := loadSite(t, map[string]string{"gw.yaml": partsMain, "things.d/a.yaml": "things: [{name: a1}]\n", "sub/secret": "s\n"}); err != nil {
		t.Fatal(err)
	}
	text := []byte("things:\n- &x {name: 0017, password_file: secret, username: '${PUMP_PASSWORD}', thing_type: }\n- {name: a1}\n")
	_, err := LoadEdited(t.Context(), "gw.yaml", environment, Edit{Add: "sub/new.yaml", Text: text})
	if err == nil || err.Error() != `sub/new.yaml:3:10: things[1].name: "a1" is the name of things[0] in things.d/a.yaml:1 already` {
		t.Errorf("got %v", err)
	}
	c, err := LoadEdited(t.Context(), "gw.yaml", environment, Edit{Add: "sub/new.yaml", Text: text, Without: []string{"things.d/a.yaml"}})
	if err != nil || len(c.Things) != 3 || c.Things[1].Password != "s" {
		t.Fatalf("%v, %+v", err, c)
	}
	items, err := Items("sub/new.yaml", text)
	if err != nil || len(items) != 2 {
		t.Fatal(items, err)
	}
	if err := c.WritePart("gw.yaml", items[0], false); err != nil {
		t.Fatal(err)
	}
	if err := c.WritePart("gw.yaml", items[0], false); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("written twice: %v", err)
	}
	whole, _ := filepath.Abs("sub/secret")
	written, _ := os.ReadFile("things.d/0017.yaml")
	for _, want := range []string{"name: \"0017\"", "username: ${PUMP_PASSWORD}", "password_file: " + whole} {
		if !strings.Contains(string(written), want) || strings.Contains(string(written), "thing_type") {
			t.Errorf("%q is not in %s", want, written)
		}
	}
	c, err = Load("gw.yaml", environment)
	if err != nil || !c.WrittenPart("0017") || c.WrittenPart("a1") || c.WrittenPart("first") {
		t.Errorf("%v, %+v", err, c)
	}
	body := strings.TrimPrefix(string(written), partHead)
	for what, text := range map[string]string{"somebody else's": body, "with a login": string(written) + "local: {users: [{name: u, password: p}]}\n", "with another Thing": string(written) + "    - name: other\n"} {
		if err := os.WriteFile("things.d/0017.yaml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.WritePart("gw.yaml", items[0], true); c.WrittenPart("0017") || err == nil || !strings.Contains(err.Error(), "somebody else has written it") {
			t.Errorf("%s: it could be removed, or %v", what, err)
		}
	}
	many := "z: &z [" + strings.Repeat("1,", 30_000) + "]\ny: &y [" + strings.Repeat("*z,", 30_000) + "]\nx: &x [" + strings.Repeat("*y,", 30_000) + "]\nthings: *x\n"
	if _, err := Items("f", []byte(many)); err == nil || !strings.Contains(err.Error(), "its aliases make more than") {
		t.Errorf("aliases of aliases of aliases: %.200v", err)
	}
	for text, want := range map[string]string{"[]": "must be a mapping with the key things", "": "is empty", "things: []": "write things: with a list", "things: [{name: a}]\nlocal: {}": "and nothing else"} {
		if _, err := Items("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
