package gateway

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// site writes a configuration with a things_dir, and loads it.
func loadSite(t *testing.T, files map[string]string) (*Config, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, name, []byte(text))
	}
	return Load("gw.yaml", environment)
}

const partsMain = "mqtt: {server: 'mqtt://h'}\nthings_dir: things.d\nthings: [{name: first}]\nlocal: {users: [{name: all, password: p}]}\n"

func TestThingsDir(t *testing.T) {
	c, err := loadSite(t, map[string]string{
		"gw.yaml":            partsMain,
		"things.d/b.yaml":    "things:\n  - {name: b1, password_file: b1.secret}\n  - name: b2\nlocal:\n  users:\n    - {name: bob, password: '${PUMP_PASSWORD}', things: [b1, first]}\n",
		"things.d/a.yaml":    "things: [{name: a1}]\n",
		"things.d/c.yaml":    "local: {users: [{name: carol, password: p, things: a1}]}\n",
		"things.d/d.yaml":    "# nothing yet\n",
		"things.d/.e.yaml":   "things: [{name: hidden}]\n",
		"things.d/f.yaml~":   "things: [{name: backup}]\n",
		"things.d/g.yml":     "things: [{name: other}]\n",
		"things.d/README":    "read me\n",
		"things.d/b1.secret": "hunter2\n",
		"things.d/old/x.md":  "",
	})
	if err != nil {
		t.Fatal(err)
	}
	var things, users []string
	for _, thing := range c.Things {
		things = append(things, thing.Name)
	}
	for _, u := range c.LocalUsers() {
		users = append(users, u.Name)
	}
	if !slices.Equal(things, []string{"first", "a1", "b1", "b2"}) || !slices.Equal(users, []string{"all", "bob", "carol"}) {
		t.Errorf("things %q, users %q", things, users)
	}
	if got := c.LocalUsers(); len(got[0].Things) != 4 || got[1].Password != "hunter2-pump" || len(got[2].Things) != 1 {
		t.Errorf("users %v", got)
	}
	if c.Things[2].Password != "hunter2" || c.Things[2].ClientID != "b1" {
		t.Errorf("got %+v", c.Things[2])
	}
	if got := texts(c.Warnings); !slices.Equal(got, []string{"gw.yaml:2:13: things_dir: things.d/g.yml is not read: its name must end in .yaml"}) {
		t.Errorf("warnings %q", got)
	}
}

// Every problem is told with the file that it stands in; a name that is taken says by whom.
func TestThingsDirProblems(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"a duplicate", map[string]string{"things.d/a.yaml": "things:\n  - name: first\n"},
			[]string{`things.d/a.yaml:2:11: things[0].name: "first" is the name of things[0] in gw.yaml:3 already`}},
		{"a client ID twice", map[string]string{"things.d/a.yaml": "things:\n  - name: x\n    client_id: first\n"},
			[]string{`things.d/a.yaml:3:16: things[0].client_id: "first" is the client ID of things[0] in gw.yaml:3 already: two sessions with one client ID would end each other`}},
		{"duplicates in two files and in one", map[string]string{"things.d/a.yaml": "things: [{name: x, client_id: x1}, {name: y, client_id: y1}]", "things.d/b.yaml": "things: [{name: y, client_id: y2}, {name: z, client_id: z1}, {name: z, client_id: z2}]"},
			[]string{`things.d/b.yaml:1:17: things[0].name: "y" is the name of things[1] in things.d/a.yaml:1 already`, `things.d/b.yaml:1:69: things[2].name: "z" is the name of things[1] already`}},
		{"a user twice", map[string]string{"things.d/a.yaml": "local:\n  users:\n    - {name: all, password: q}\n"},
			[]string{`things.d/a.yaml:3:14: local.users[0].name: "all" is the name of local.users[0] in gw.yaml:4 already`}},
		{"other keys", map[string]string{"things.d/a.yaml": "mqtt: {keep_alive: 1s}\nlocal: {users: [], bus: [a]}\nthings: [{name: x, nam: y}]\nhunter2hunter2: x\n"},
			[]string{"things.d/a.yaml:1:1: mqtt: is no known key here, write mqtt in gw.yaml", "things.d/a.yaml:2:20: local.bus: is no known key",
				"things.d/a.yaml:3:20: things[0].nam: is no known key, did you mean name?", "things.d/a.yaml:4:1: …: is no known key, known are things, local"}},
		{"shapes", map[string]string{"things.d/a.yaml": "things: x\n", "things.d/b.yaml": "[]\n", "things.d/c.yaml": "local: {users: {}}\n"},
			[]string{"things.d/a.yaml:1:1: things: must be a list", "things.d/b.yaml: must be a mapping with the keys things, local", "things.d/c.yaml:1:9: local.users: must be a list"}},
		{"no YAML", map[string]string{"things.d/a.yaml": "things: [\n", "things.d/b.yaml": "\xff", "things.d/c.yaml": "things: [{name: x}]\n---\nthings: [{name: y}]\n"},
			[]string{"things.d/a.yaml:1: is not YAML", "things.d/b.yaml: is not valid UTF-8", "things.d/c.yaml:3:1: holds a second document"}},
		{"nothing there", map[string]string{"things.d/a.yaml": "things: [{name: x, password_file: nothing.txt}]\nlocal: {users: [{name: u, things: [y]}, {name: v, password: p, things: [y]}]}\n"},
			[]string{"things.d/a.yaml:1:35: things[0].password_file: things.d/nothing.txt does not exist", `things.d/a.yaml:2:73: local.users[1].things[0]: "y" is no configured Thing`, "things.d/a.yaml:2:18: local.users[0]: has no login"}},
		{"a directory", map[string]string{"things.d/a.yaml/x": ""}, []string{"things.d/a.yaml: is a directory, name a file"}},
		{"no directory", nil, []string{"gw.yaml:2:13: things_dir: things.d does not exist"}},
		{"a file", map[string]string{"things.d": ""}, []string{"gw.yaml:2:13: things_dir: things.d is no directory"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{"gw.yaml": partsMain}
			for name, text := range c.files {
				files[name] = text
			}
			_, err := loadSite(t, files)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains("\n"+err.Error(), "\n"+want) {
					t.Errorf("want %s in\n%s", want, err)
				}
			}
			if strings.Count(err.Error(), "\n")+1 != len(c.want) || strings.Contains(err.Error(), "parts[") || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got\n%s", err)
			}
		})
	}
}
