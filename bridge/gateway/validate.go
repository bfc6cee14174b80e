package gateway

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"fleetbridge/bridge/local/access"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// validator checks a decoded configuration, resolves its _file keys and joins its paths to the
// directory of the file.
type validator struct {
	*report
	*Config
	edit            Edit
	thingAt, userAt []string // the paths of Things and of users
	names           []string // of the Things
	known           map[string]bool
	hints           int
	catalog         *schemas.Catalog
	compiled        map[string]bool // schema directories
}

func (v *validator) all() {
	v.limits()
	v.mqtt()
	v.fleets()
	v.thingDefaults()
	v.things()
	v.nats()
	v.cluster()
	v.users()
	v.rest()
	v.written()
}

func (v *validator) limits() {
	if v.Limits.Payload < 1 || v.Limits.Payload > 8<<20 {
		v.problem("limits.payload", "is %s, write a size from 1 to 8MiB", v.Limits.Payload)
	}
	v.between("limits.depth", v.Limits.Depth, 1, 1000)
}

func (v *validator) mqtt() {
	m := &v.MQTT
	if len(m.Server) == 0 && !v.broken("mqtt.server") {
		v.problem("mqtt.server", "is missing, write the broker's URL, such as mqtts://broker.example.com:8883")
	}
	encrypted := false
	for i, s := range m.Server {
		at := v.item("mqtt.server", i)
		if v.broken(at) {
			continue
		}
		url, err := ParseServer(s)
		if err != nil {
			v.problem(at, "%s", err)
			continue
		}
		m.Server[i] = url
		encrypted = encrypted || secure(url)
	}
	v.tls("mqtt.tls", &m.TLS)
	if !encrypted && m.TLS != (TLS{}) && !v.broken("mqtt") {
		v.warn("mqtt.tls", "is not used: no server is mqtts or wss")
	}
	v.seconds("mqtt.keep_alive", m.KeepAlive, 65535*time.Second)
	v.seconds("mqtt.session_expiry", m.SessionExpiry, (1<<32-1)*time.Second)
	v.between("mqtt.receive_maximum", m.ReceiveMaximum, 1, 65535)
	if m.MaxPublishRate < 0 {
		v.problem("mqtt.max_publish_rate", "is %v, write messages per second, or 0 for no limit", m.MaxPublishRate)
	}
	v.positive("mqtt.ack_timeout", m.AckTimeout)
	v.positive("mqtt.connect_timeout", m.ConnectTimeout)
}

func (v *validator) fleets() {
	f := &v.Fleets
	v.secret("fleets", "api_secret", &f.APISecret, &f.APISecretFile)
	v.tls("fleets.tls", &f.TLS)
	if f.URL == "" {
		if !v.broken("fleets") && (f.APIKey != "" || f.APISecret != "") {
			v.problem("fleets.url", "is missing, write the deployment's API endpoint or remove the keys beside it")
		}
		return
	}
	plain, err := checkHTTP(f.URL, "api_key and api_secret_file")
	switch {
	case err != nil:
		v.problem("fleets.url", "%s", err)
	case plain:
		v.warn("fleets.url", "is http: anybody on the way can read the API key, use https")
		if f.TLS != (TLS{}) {
			v.warn("fleets.tls", "is not used: fleets.url is http")
		}
	}
	if f.APIKey == "" {
		v.problem("fleets.api_key", "is missing, fleets.url needs it")
	}
	if f.APISecret == "" && !v.broken("fleets.api_secret_file") {
		v.problem("fleets.api_secret", "is missing, write api_secret_file: PATH")
	}
}

// commonName is the alphabet that every cloud's consoles and tools agree on.
var commonName = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)

func (v *validator) things() {
	if len(v.Things) == 0 && !v.broken("things") && v.NATS.URL == "" && !v.broken("nats") {
		v.problem("things", "is missing, list at least one Thing here or in a file of things_dir")
	}
	byName, byClient := map[string]string{}, map[string]string{}
	for i := range v.Things {
		t, at := &v.Things[i], v.thingAt[i]
		if v.thingName(t, at) {
			if first, taken := byName[t.Name]; taken {
				v.problem(at+".name", "%q is the name of %s already", t.Name, v.spell(first, at))
			} else {
				byName[t.Name] = at
			}
		}
		if t.ClientID == "" && !v.set(at+".client_id") {
			t.ClientID = t.Name
		}
		v.origins[t.Name] = fmt.Sprintf("%s:%d", v.fileOf(at), v.nearest(at).line)
		v.fill(t, at)
		v.mqttText(at+".client_id", t.ClientID)
		if t.ClientID == "" && t.Name != "" {
			v.problem(at+".client_id", "is empty, write the Thing's MQTT client ID or remove the key")
		}
		if first, taken := byClient[t.ClientID]; taken && t.ClientID != "" && !v.broken(at+".name") {
			v.problem(at+".client_id", "%q is the client ID of %s already: two sessions with one client ID would end each other", t.ClientID, v.spell(first, at))
		} else if !taken {
			byClient[t.ClientID] = at
		}
		v.mqttText(at+".username", t.Username)
		v.secret(at, "password", &t.Password, &t.PasswordFile)
		v.keyPair(at+".tls", &t.TLS)
		if t.TLS != (KeyPair{}) && len(v.MQTT.Server) > 0 && !slices.ContainsFunc(v.MQTT.Server, secure) {
			v.warn(at+".tls", "is not used: no server is mqtts or wss")
		}
		v.schemaDir(at+".schema_dir", &t.SchemaDir)
		v.thingType(at+".thing_type", &t.ThingType)
		v.typeName(at+".thing_type_name", t)
	}
}

func (v *validator) thingName(t *Thing, at string) bool {
	path := at + ".name"
	if v.broken(path) || v.misshapen(at) {
		return false
	}
	if t.Name == "" {
		v.problem(path, "is missing, write the Thing's name in Fleets")
		return false
	}
	if _, err := mapping.ParseThing(t.Name); err != nil {
		v.problem(path, "%s", err)
		return false
	}
	if !commonName.MatchString(t.Name) {
		v.warn(path, "%q has characters or a length beyond a-z A-Z 0-9 : _ - and 128, which other tools may refuse", t.Name)
	}
	return true
}

// mqttText checks what MQTT asks of its strings.
func (v *validator) mqttText(path, s string) {
	switch {
	case len(s) > 65535:
		v.problem(path, "has %d bytes, MQTT allows 65535", len(s))
	case !utf8.ValidString(s):
		v.problem(path, "is not valid UTF-8")
	case strings.ContainsRune(s, 0):
		v.problem(path, "contains a NUL character, which MQTT forbids")
	}
}

// schemaDir compiles a Thing's own schemas, once each directory that is named.
func (v *validator) schemaDir(path string, dir *string) {
	if *dir == "" || v.broken(path) {
		return
	}
	*dir = v.join(path, *dir)
	v.files.add(root{*dir, schemaDepth})
	if !v.isDir(path, *dir) || !v.compiles(*dir) {
		return
	}
	_, err := v.catalog.LoadThing(*dir)
	v.each(path, err)
}

// thingType compiles a Thing Type, once each file that is named.
func (v *validator) thingType(path string, file *string) {
	if *file == "" || v.broken(path) {
		return
	}
	*file = v.join(path, *file)
	v.watch(*file)
	if !v.compiles(*file) {
		return
	}
	_, t, err := v.catalog.LoadThingType(*file)
	v.each(path, err)
	if err == nil {
		for _, note := range t.Notes {
			v.warn(path, "%s: %s", *file, note)
		}
	}
}

// compiles reports whether a directory or a file of schemas has yet to be compiled, and makes the catalog for it.
func (v *validator) compiles(path string) bool {
	if v.compiled[path] {
		return false
	}
	if v.catalog == nil {
		catalog, err := schemas.New(schemas.Options{MaxBytes: int(v.Limits.Payload), MaxDepth: v.Limits.Depth})
		if err != nil {
			v.problem("", "the built-in schemas do not compile: %s", err)
			return false
		}
		v.catalog, v.compiled = catalog, map[string]bool{}
	}
	v.compiled[path] = true
	return true
}

func (v *validator) rest() {
	v.positive("requests.timeout", v.Requests.Timeout)
	v.notNegative("commands.handler_wait", v.Commands.HandlerWait)
	v.positive("commands.default_ttl", v.Commands.DefaultTTL)
	v.notNegative("commands.clock_skew", v.Commands.ClockSkew)
	if v.HTTP.Listen != "" {
		v.listen("http.listen", v.HTTP.Listen)
		v.otherThan("http.listen", v.HTTP.Listen, "nats.embedded.listen", v.embeddedListen())
	}
	v.console()
	v.traces()
}

// embeddedListen is where the embedded server listens; empty: there is none.
func (v *validator) embeddedListen() string {
	if v.NATS.URL != "" {
		return ""
	}
	return v.NATS.Embedded.Listen
}

// otherThan refuses an address that another listener has.
func (v *validator) otherThan(path, address, otherPath, other string) {
	if _, port := hostPort(address); address == other && port != "0" {
		v.problem(path, "%q is %s too, write another port", address, otherPath)
	}
}

func (v *validator) console() {
	c := &v.Console
	for i, host := range c.Hosts {
		if at := v.item("console.hosts", i); !v.broken(at) && (host == "" || hostOf(host) != strings.ToLower(host) || strings.ContainsAny(host, "/ *")) {
			v.problem(at, "%q is no name of a host, write it without port, such as gw.example.lan", host)
		}
	}
	v.listenTLS("console.tls", &c.TLS)
	v.consoleUsers()
	if c.Listen == "" && len(c.Users) > 0 {
		v.warn("console.users", "is not used: console.listen is empty")
	}
	if c.Listen == "" || !v.listen("console.listen", c.Listen) {
		return
	}
	v.otherThan("console.listen", c.Listen, "nats.embedded.listen", v.embeddedListen())
	v.otherThan("console.listen", c.Listen, "http.listen", v.HTTP.Listen)
	host, _ := hostPort(c.Listen)
	switch {
	case c.TLS != (ListenTLS{}):
		if c.PlainHTTP {
			v.warn("console.plain_http", "is not used: console.tls has a certificate, so the console speaks TLS only")
		}
	case !loopback(host) && !c.PlainHTTP && !v.broken("console.tls"):
		v.problem("console.listen", "%q can be reached from other machines: write console.tls, listen on 127.0.0.1, or set console.plain_http if TLS ends in front of it", c.Listen)
	case !loopback(host) && len(c.Users) > 0:
		v.warn("console.users", "log in without TLS (console.plain_http), and %q can be reached from other machines: anybody on the way can read the passwords, unless TLS ends in front of it; write console.tls", c.Listen)
	}
}

// maxConsoleCost bounds what a login costs: each step up doubles it, and at 14 it takes some seconds on a small gateway.
const maxConsoleCost = 14

// maxConsoleName is how many bytes the name of a user of the console may have: it is in each of his tokens.
const maxConsoleName = 64

func (v *validator) consoleUsers() {
	names := map[string]string{}
	for i := range v.Console.Users {
		u, at := &v.Console.Users[i], v.item("console.users", i)
		if v.misshapen(at) {
			continue
		}
		v.loginName(names, u.Name, at)
		if len(u.Name) > maxConsoleName {
			v.problem(at+".name", "has %d bytes, at most %d are allowed", len(u.Name), maxConsoleName)
		}
		v.secret(at, "password", &u.Password, &u.PasswordFile)
		if u.Password == "" {
			if !v.broken(at+".password") && !v.broken(at+".password_file") {
				v.problem(at, "has no login, write password_file: PATH")
			}
			continue
		}
		if err := access.CheckPassword(string(u.Password), maxConsoleCost); err != nil {
			v.problem(at+".password", "%s", err)
		}
	}
}

func (v *validator) traces() {
	t := &v.Traces
	if !(t.Sample >= 0 && t.Sample <= 1) {
		v.problem("traces.sample", "is %v, write a number from 0 to 1, such as 0.01 for one message of a hundred", t.Sample)
	}
	if t.Endpoint == "" {
		return
	}
	plain, err := checkHTTP(t.Endpoint, "OTEL_EXPORTER_OTLP_HEADERS")
	if err != nil {
		v.problem("traces.endpoint", "%s", err)
		return
	}
	u, _ := url.Parse(t.Endpoint)
	if u.Port() == "4317" {
		v.warn("traces.endpoint", "has the port 4317, which collectors use for gRPC: the bridge speaks HTTP, for which they use 4318")
	}
	if plain && !loopback(u.Hostname()) {
		v.warn("traces.endpoint", "is http: anybody on the way can read names of Things, ids and times, use https")
	}
}

// secret reads the file of a _file key into the key that it stands for.
func (v *validator) secret(path, name string, s *Secret, file *string) {
	at := join(path, name) + "_file"
	if *file == "" {
		return
	}
	given := *file
	*file = v.join(path, *file)
	v.watch(*file)
	if *s != "" {
		v.problem(at, "is given beside %s, keep one of them", name)
		return
	}
	text, info, err := readSecret(*file)
	if err != nil {
		v.problem(at, "%s", namely(given, err))
		return
	}
	v.open(at, *file, info)
	*s = text
}

// item spells the path of a list's member as the file does: a single value stands for its list.
func (v *validator) item(path string, i int) string {
	at := index(path, i)
	if !v.set(at) && v.set(path) {
		return path
	}
	return at
}

// join makes a path that a key names one of this process: it begins at the file that the key stands in.
func (v *validator) join(at, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(v.fileOf(at)), path)
}
