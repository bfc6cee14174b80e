package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the golden files and the generated documents")

// environment is what the configurations in testdata may refer to.
func environment(name string) (string, bool) {
	v, ok := map[string]string{"FLEETS_API_KEY": "hunter2-key", "PUMP_PASSWORD": "hunter2-pump", "SOON": "soon", "HOST": "h"}[name]
	return v, ok
}

// inTestdata copies testdata to a directory of its own, with fresh keys, and works there: so paths in
// messages are the same everywhere.
func inTestdata(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	writeKeys(t, filepath.Join(dir, "files"))
	t.Chdir(dir)
}

func writeKeys(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"cert", "other"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
			NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))
		write(t, filepath.Join(dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// golden compares with a file of the source tree, or writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		write(t, path, []byte(got))
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run with -update", err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", filepath.Base(path), got, want)
	}
}

func TestBadFiles(t *testing.T) {
	source, err := filepath.Abs("testdata/bad")
	if err != nil {
		t.Fatal(err)
	}
	inTestdata(t)
	files, err := filepath.Glob("bad/*.yaml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := Load(file, environment)
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("got %v, want Problems", err)
			}
			if lines := strings.Count(err.Error(), "\n") + 1; lines != len(problems) {
				t.Errorf("%d lines for %d problems", lines, len(problems))
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is in\n%s", err)
			}
			golden(t, filepath.Join(source, strings.TrimSuffix(filepath.Base(file), ".yaml")+".txt"), err.Error()+"\n")
		})
	}
}

func load(t *testing.T, file string) *Config {
	t.Helper()
	c, err := Load(file, environment)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	inTestdata(t)
	want := &Config{
		MQTT: MQTT{Server: []string{"mqtt://127.0.0.1:1883"}, KeepAlive: 30 * time.Second, SessionExpiry: 168 * time.Hour,
			ReceiveMaximum: 1024, Subscriptions: "exact", AckTimeout: 30 * time.Second, ConnectTimeout: 60 * time.Second},
		Things: []Thing{{Name: "pump-07", ClientID: "pump-07"}},
		NATS: NATS{Prefix: "fleets", Replicas: 1,
			Embedded: Embedded{Listen: "127.0.0.1:4222", StoreDir: "good/fleetbridge-data", Sync: Sync{Always: true}},
			Up:       Up{MaxBytes: 1 << 30, MaxAge: 168 * time.Hour}, Down: Down{MaxBytes: 256 << 20, MaxAge: 24 * time.Hour}},
		Cluster: Cluster{Beat: time.Second, BrokerGrace: 30 * time.Second}, Shadow: Shadow{"merged"}, Requests: Requests{10 * time.Second},
		Commands: Commands{"reject", 5 * time.Second, time.Minute, 5 * time.Second},
		Limits:   Limits{Payload: 128 << 10, Depth: 64}, HTTP: HTTP{"127.0.0.1:9321"},
		Console: Console{Listen: "127.0.0.1:9322", Actions: []string{"replay", "discard", "doctor"}}, Traces: Traces{Sample: 1}, Log: Log{"info", "text"},
	}
	for _, file := range []string{"good/minimal.yaml", "good/nulls.yaml"} {
		want.dir, want.origins = "good", map[string]string{"pump-07": load(t, file).Origin("pump-07")}
		if got := load(t, file); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", file, dump(got), dump(want))
		}
	}
}

func TestFull(t *testing.T) {
	inTestdata(t)
	c := load(t, "good/full.yaml")
	want := &Config{
		MQTT: MQTT{Server: []string{"mqtts://broker.example.com:8883", "wss://broker.example.com:8084/mqtt"},
			TLS:       TLS{"files/cert.pem", "files/cert.pem", "files/cert.key", "broker"},
			KeepAlive: 20 * time.Second, SessionExpiry: 24 * time.Hour, ReceiveMaximum: 10, Subscriptions: "compact",
			MaxPublishRate: 2.5, AckTimeout: 10 * time.Second, ConnectTimeout: 90 * time.Second, AllowQoS0: true},
		Fleets: Fleets{URL: "https://fleets.example.com:8443", APIKey: "hunter2-key", APISecret: "hunter2-file", APISecretFile: "files/password"},
		Things: []Thing{
			{Name: "thermostat-001", ClientID: "0017", Username: "thermostat", Password: "crlf-secret", PasswordFile: "files/crlf", SchemaDir: "files/schemas"},
			{Name: "pump 7", ClientID: "pump 7", Password: "hunter2-pump"},
		},
		NATS: NATS{Prefix: "site.fleets", Replicas: 1,
			Embedded: Embedded{Listen: "0.0.0.0:0", StoreDir: "good/data", Sync: Sync{Interval: time.Second}},
			Up:       Up{MaxBytes: 64 << 20}, Down: Down{MaxBytes: 1 << 20, MaxAge: time.Hour}},
		Cluster: Cluster{Beat: time.Second, BrokerGrace: 30 * time.Second},
		Local: Local{Bus: []string{"app.>", "site"}, Users: []User{
			{Name: "hvac", Password: "hunter2-file", PasswordFile: "files/password", Things: []string{"thermostat-001"}, Allow: []string{"report", "read"}},
			{Name: "everything", NKey: "UCQJOGUITCR7XVLIWOTIQ2WKFHGFJ7DFKCBITRTM3VYLKAEMXQGDE2MY", Things: []string{"thermostat-001", "pump 7"},
				Allow: []string{"report", "events", "commands", "jobs", "read"}},
		}},
		Shadow: Shadow{"as_sent"}, Requests: Requests{5 * time.Second}, Commands: Commands{"wait", 0, 30 * time.Second, 0},
		Limits: Limits{Payload: 64 << 10, Depth: 10, Memory: Memory{512 << 20}}, Log: Log{"debug", "json"},
		Console: Console{Listen: "0.0.0.0:9322", Hosts: []string{"gw.example.lan"}, TLS: ListenTLS{CertFile: "files/cert.pem", KeyFile: "files/cert.key"}, Actions: []string{},
			Users: []ConsoleUser{{Name: "alice", Password: "hunter2-file", PasswordFile: "files/password", Role: "operator"}, {Name: "bob", Password: "hunter2-bob", Role: "viewer"}}},
		Traces:   Traces{"https://otlp.example.com/otlp", 0.25},
		Warnings: c.Warnings,
		Exposed:  c.Exposed, // as the checkout has the files' modes
		dir:      "good", origins: map[string]string{"thermostat-001": "good/full.yaml:17", "pump 7": "good/full.yaml:22"},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%s\nwant\n%s", dump(c), dump(want))
	}
	if got := texts(c.Warnings); !slices.Equal(got, []string{
		`good/full.yaml:22:11: things[1].name: "pump 7" has characters or a length beyond a-z A-Z 0-9 : _ - and 128, which other tools may refuse`}) {
		t.Errorf("warnings %q", got)
	}
	client, err := c.MQTT.TLS.Client()
	if err != nil || len(client.Certificates) != 1 || client.RootCAs == nil || client.ServerName != "broker" {
		t.Errorf("TLS client %+v, %v", client, err)
	}
	if client, err := c.NATS.TLS.Client(); client != nil || err != nil {
		t.Errorf("an empty tls gives %v, %v", client, err)
	}
}

func TestExternal(t *testing.T) {
	inTestdata(t)
	c := load(t, "good/external.yaml")
	if string(c.NATS.URL) != "nats://127.0.0.1:4222,tls://user:hunter2@nats.example.com" || c.NATS.Replicas != 3 {
		t.Errorf("nats %q, replicas %d", string(c.NATS.URL), c.NATS.Replicas)
	}
	if c.Cluster != (Cluster{Shards: 1, ID: "gw-a", Beat: 500 * time.Millisecond, BrokerGrace: 30 * time.Second}) {
		t.Errorf("cluster %+v", c.Cluster)
	}
	if string(c.Fleets.APISecret) != "${not a variable}" {
		t.Errorf("api_secret %q", string(c.Fleets.APISecret))
	}
	var paths []string
	for _, w := range c.Warnings {
		paths = append(paths, w.Path)
	}
	if !slices.Equal(paths, []string{"mqtt.tls", "fleets.url", "things[0].name", "nats.embedded.sync"}) {
		t.Errorf("warnings %q", texts(c.Warnings))
	}
}

// Everything may be written in one line, as JSON does; colons and braces need no quotes where YAML
// does not want them.
func TestFlowStyle(t *testing.T) {
	inTestdata(t)
	c := load(t, "good/flow.yaml")
	if got := c.MQTT.Server; !slices.Equal(got, []string{"mqtt://127.0.0.1:1883", "mqtts://b.example.com:8883"}) {
		t.Errorf("servers %q", got)
	}
	if c.Things[0].Name != "site:pump:7" || c.NATS.Embedded.Listen != "127.0.0.1:0" || c.HTTP.Listen != "127.0.0.1:9999" {
		t.Errorf("got %s", dump(c))
	}
	if u := c.Local.Users[0]; !slices.Equal(u.Things, []string{"site:pump:7", "12:30"}) || string(u.Password) != "a:b" {
		t.Errorf("user %+v, password %q", u, string(u.Password))
	}
	js := load(t, "good/json.yaml")
	if js.MQTT.ReceiveMaximum != 7 || js.Things[0].ClientID != "x" || js.MQTT.Server[0] != "mqtt://[::1]:1883" {
		t.Errorf("got %s", dump(js))
	}
}

func texts(ps []Problem) []string {
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
}

// dump shows everything, secrets too.
func dump(c *Config) string {
	plain := *c
	s := fmt.Sprintf("%+v", plain)
	for _, t := range c.Things {
		s += fmt.Sprintf("\n%q %q", t.Name, string(t.Password))
	}
	return s
}

// Every ordinary way to print a configuration hides what is secret in it.
func TestNothingPrintsSecrets(t *testing.T) {
	inTestdata(t)
	for _, file := range []string{"good/full.yaml", "good/external.yaml"} {
		c := load(t, file)
		js, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		ym, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "c", c, "s", c.Fleets.APISecret, "u", c.NATS.URL)
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "c", c, "s", c.Fleets.APISecret, "u", c.NATS.URL)
		for _, form := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			log.WriteString(fmt.Sprintf(form, c) + fmt.Sprintf(form, *c) + fmt.Sprintf(form, c.Things) + fmt.Sprintf(form, c.NATS.URL))
		}
		all := string(js) + string(ym) + log.String()
		for _, secret := range []string{"hunter2", "crlf-secret", "not a variable", fmt.Sprintf("%x", "hunter2")} {
			if strings.Contains(all, secret) {
				t.Errorf("%s: %q is printed", file, secret)
			}
		}
		if !strings.Contains(all, redacted) {
			t.Errorf("%s: nothing says that it was redacted", file)
		}
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	_, err := Load("no/such.yaml", environment)
	if err == nil || err.Error() != "no/such.yaml: can't be read: no such file or directory" {
		t.Errorf("got %v", err)
	}
}

// Nobody's messages are mistaken for inboxes, the server's or the bridge's own.
func TestPrefixThatIsTaken(t *testing.T) {
	t.Parallel()
	for prefix, ok := range map[string]bool{"_INBOX": false, "_INBOX.x": false, "_INBOX_hvac": false, "_fleets": false, "$SYS": false, "$JS.API": false, "fleets": true, "site_1.fleets": true} {
		_, err := parse("f", []byte("mqtt: {server: 'mqtt://h:1'}\nthings: [{name: a}]\nnats: {prefix: '"+prefix+"'}\n"), environment)
		if (err == nil) != ok || err != nil && !strings.HasPrefix(err.Error(), "f:3:") {
			t.Errorf("%s: %v", prefix, err)
		}
	}
}

// What is odd about a file as a whole is said of the whole file.
func TestOddBytes(t *testing.T) {
	t.Parallel()
	const fine = "mqtt: {server: 'mqtt://h:1'}\nthings: [{name: a}]\n"
	for _, c := range []struct{ name, in, want string }{
		{"byte order mark", "\xef\xbb\xbf" + fine, ""},
		{"CRLF", strings.ReplaceAll(fine, "\n", "\r\n"), ""},
		{"document marks", "---\n" + fine + "...\n", ""},
		{"comments only", "# nothing\n", "f: mqtt.server: is missing"},
		{"invalid UTF-8", fine + "# \xff", "f: is not valid UTF-8"},
		{"large", strings.Repeat("#", 1<<20+1), "f: has more than 1MiB"},
		{"deep", strings.Repeat("[", 1<<17), "f:1: is not YAML: exceeded max depth"},
		{"anchors in a ring", "mqtt: &a *a", "f:1: is not YAML"},
		{"anchor within itself", "mqtt: &a {tls: *a}", "f: things: is missing"},
		{"alias of a list within itself", "things: &a [*a]", "f: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse("f", []byte(c.in), environment)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// FuzzParse looks for panics and for errors without a place or with more lines than problems.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.yaml", "testdata/good/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse("fuzz.yaml", data, environment)
		if err == nil {
			if len(c.MQTT.Server) == 0 || len(c.Things) == 0 {
				t.Errorf("accepted without server or things: %q", data)
			}
			return
		}
		if lines := strings.Split(err.Error(), "\n"); len(lines) != len(err.(Problems)) {
			t.Errorf("%d lines for %d problems", len(lines), len(err.(Problems)))
		}
	})
}

// Passwords without TLS on an address of other machines are warned of, and so is what is not used.
func TestConsoleWarnings(t *testing.T) {
	inTestdata(t)
	for text, want := range map[string][]string{
		"listen: 0.0.0.0:9322, plain_http: true, users: [{name: a, password: b}]":                                        {"console.users"},
		"listen: 0.0.0.0:9322, plain_http: true":                                                                         nil,
		"users: [{name: a, password: b}]":                                                                                nil,
		"listen: '', users: [{name: a, password: b}]":                                                                    {"console.users"},
		"listen: 0.0.0.0:9322, plain_http: true, tls: {cert_file: CERT, key_file: KEY}, users: [{name: a, password: b}]": {"console.plain_http"},
	} {
		dir, files := t.TempDir(), strings.NewReplacer("CERT", inFiles(t, "cert.pem"), "KEY", inFiles(t, "cert.key"))
		file := filepath.Join(dir, "gw.yaml")
		write(t, file, []byte("mqtt: {server: mqtt://broker}\nthings: [{name: pump-07}]\nconsole: {"+files.Replace(text)+"}\n"))
		var got []string
		for _, w := range load(t, file).Warnings {
			got = append(got, w.Path)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: warnings of %q, not %q", text, got, want)
		}
	}
}

func inFiles(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("files", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}
