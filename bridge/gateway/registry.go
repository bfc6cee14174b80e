package gateway

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"fleetbridge/bridge/local/registry"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// OfRegistry is the Origin of a Thing that the registry has.
const OfRegistry = "registry"

// maxRegistered is how many Things of the registry are taken, as many as things_dir may have files.
const maxRegistered = maxParts

// Refused says why an entry of the registry is not taken. It costs only itself.
type Refused struct {
	Key    string // in the bucket
	Thing  string // the name that the key stands for; empty: it stands for none
	Reason string // with the key of the entry, its value and the mend
}

// WithRegistry is the configuration with the Things of the registry beside those of the files, and what is refused. A Thing that the
// files have is theirs.
func (c *Config) WithRegistry(entries []registry.Entry) (*Config, []Refused) {
	merged, refused, _ := c.withRegistry(entries)
	return merged, refused
}

// withRegistry returns besides which files it read, or would have.
func (c *Config) withRegistry(entries []registry.Entry) (*Config, []Refused, watchlist) {
	if len(entries) == 0 {
		return c, nil, watchlist{}
	}
	merged := *c
	merged.Things, merged.origins = slices.Clone(c.Things), maps.Clone(c.origins)
	if merged.origins == nil {
		merged.origins = map[string]string{}
	}
	m := merger{Config: &merged, clients: map[string]string{}, bad: map[string]string{}, seen: map[string]bool{}}
	for _, t := range c.Things {
		m.clients[t.ClientID], m.seen[t.Name] = t.Name, true
	}
	var refused []Refused
	for i, e := range entries {
		name, err := mapping.Untoken(e.Key)
		if err != nil {
			name = ""
		}
		if i >= maxRegistered {
			err = fmt.Errorf("the registry has more than %d Things, and those behind are not taken", maxRegistered)
		} else if err = m.add(e); err == nil {
			continue
		}
		refused = append(refused, Refused{e.Key, name, err.Error()})
	}
	return &merged, refused, m.files
}

// merger adds entries to a configuration.
type merger struct {
	*Config
	clients map[string]string // Things, by client id
	seen    map[string]bool   // Things
	bad     map[string]string // paths of schemas that do not compile, and why
	catalog *schemas.Catalog
	built   map[string]bool
	files   watchlist
}

// secretKeys can't be in an entry: the bucket is for whoever may read NATS, and who writes there shall not have the bridge read
// any file and send it to a broker.
var secretKeys = []string{"password", "password_file", "tls"}

func (m *merger) add(e registry.Entry) error {
	r := newReport(m.dir + "/registry") // the paths in it begin where those of the configuration do
	t := Thing{}
	const at = "thing"
	r.decode(e.Value, func(string) (string, bool) { return "", false }, reflect.ValueOf(&t).Elem(), at)
	own := *m.Config
	own.Things = []Thing{t}
	v := &validator{report: r, Config: &own, thingAt: []string{at}, catalog: m.catalog, compiled: m.built}
	for _, key := range secretKeys {
		if v.set(at + "." + key) {
			v.problem(at+"."+key, "can't be in the registry, where nothing secret is: write thing_defaults.%s in the configuration of the bridges", mendOf(key))
		}
	}
	v.origins = map[string]string{}
	v.things()
	t = own.Things[0]
	m.files.take(r.files)
	if t.Name != "" && mapping.Token(t.Name) != e.Key {
		return fmt.Errorf("name: %q belongs under the key %s", t.Name, mapping.Token(t.Name))
	}
	if err := m.keepBad(v, at, t); err != nil {
		return err
	}
	if err := firstOf(r.err(), at); err != nil {
		return err
	}
	switch {
	case m.seen[t.Name]:
		return fmt.Errorf("name: %q stands in %s, too, which holds: remove one of them", t.Name, m.origins[t.Name])
	case m.clients[t.ClientID] != "":
		return fmt.Errorf("client_id: %q is the client ID of %s already: two sessions with one client ID would end each other", t.ClientID, m.clients[t.ClientID])
	}
	m.clients[t.ClientID], m.seen[t.Name], m.origins[t.Name] = t.Name, true, OfRegistry
	m.Things = append(m.Things, t)
	for _, w := range r.warnings {
		w.File, w.Line, w.Column, w.Path = OfRegistry+"/"+e.Key, 0, 0, strings.TrimPrefix(w.Path, at+".")
		m.Warnings = append(slices.Clip(m.Warnings), w)
	}
	return nil
}

// keepBad remembers which schemas do not compile: they are compiled once, for the first that names them.
func (m *merger) keepBad(v *validator, at string, t Thing) error {
	m.catalog, m.built = v.catalog, v.compiled
	for key, path := range map[string]string{"schema_dir": t.SchemaDir, "thing_type": t.ThingType} {
		if why, bad := m.bad[path]; bad && path != "" {
			return fmt.Errorf("%s: %s", key, why)
		}
		if path != "" && v.broken(at+"."+key) {
			m.bad[path] = "its schemas can't be used: " + path
			if err := firstOf(v.err(), at+"."+key); err != nil {
				m.bad[path] = err.Error()
			}
		}
	}
	return nil
}

func mendOf(key string) string {
	if key == "password" {
		return "password_file"
	}
	return key
}

// firstOf are the problems in one line, without the file and with keys as the entry has them.
func firstOf(err error, at string) error {
	var problems Problems
	if !errors.As(err, &problems) {
		return err
	}
	var out []string
	for _, p := range problems {
		text := strings.TrimPrefix(p.Path, at)
		if text = strings.TrimPrefix(text, "."); text != "" {
			text += ": "
		}
		out = append(out, text+p.Message)
	}
	return errors.New(strings.Join(out, "; "))
}
