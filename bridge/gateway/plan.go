package gateway

import (
	"crypto/sha256"
	"fmt"
	"os"
	"reflect"
	"slices"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/internal/plainfile"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// ownSchemas are the schemas that a Thing brings, and a digest of their files.
type ownSchemas struct {
	schemas *schemas.ThingSchemas
	digest  string
}

// loadSchemas compiles what the Things bring.
func (g *Gateway) loadSchemas(cfg *Config) (map[mapping.Thing]ownSchemas, error) {
	out, digests := map[mapping.Thing]ownSchemas{}, map[string]string{}
	for _, t := range cfg.Things { // before they are read, so that a change in between is noticed at the next reload
		for _, path := range []string{t.SchemaDir, t.ThingType, cfg.keptType(t.TypeName)} {
			if _, known := digests[path]; !known {
				digests[path] = digestOf(path)
			}
		}
	}
	own, err := cfg.Schemas(g.catalog)
	for _, t := range cfg.Things {
		if name := mapping.Thing(t.Name); own[name] != nil {
			out[name] = ownSchemas{own[name], digests[t.SchemaDir] + digests[t.ThingType] + digests[cfg.keptType(t.TypeName)]}
		}
	}
	return out, err
}

// Schemas compiles what the Things bring, once for those that bring the same. Things that bring nothing are not in it.
func (c *Config) Schemas(catalog *schemas.Catalog) (map[mapping.Thing]*schemas.ThingSchemas, error) {
	type source struct{ dir, thingType, name string }
	out, made := map[mapping.Thing]*schemas.ThingSchemas{}, map[source]*schemas.ThingSchemas{}
	for _, t := range c.Things {
		from := source{t.SchemaDir, t.ThingType, t.TypeName}
		if from == (source{}) {
			continue
		}
		own, known := made[from]
		if !known {
			var err error
			if own, err = c.schemas(catalog, t); err != nil {
				return nil, err
			}
			made[from] = own
		}
		if own != nil {
			out[mapping.Thing(t.Name)] = own
		}
	}
	return out, nil
}

// schemas compiles what a Thing brings: its directory and its Thing Type; nil: neither. A Thing Type of the API that is not
// there yet, or was damaged, brings nothing: the Thing works without.
func (c *Config) schemas(catalog *schemas.Catalog, t Thing) (own *schemas.ThingSchemas, err error) {
	if t.SchemaDir != "" {
		if own, err = catalog.LoadThing(t.SchemaDir); err != nil {
			return nil, fmt.Errorf("schemas of thing %q: %w", t.Name, err)
		}
	}
	if t.TypeName != "" {
		typed, _, _ := catalog.LoadThingType(c.keptType(t.TypeName))
		return typed.With(own), nil
	}
	if t.ThingType == "" {
		return own, nil
	}
	typed, _, err := catalog.LoadThingType(t.ThingType)
	if err != nil {
		return nil, fmt.Errorf("Thing Type of thing %q: %w", t.Name, err)
	}
	return typed.With(own), nil
}

// digestOf is the digest of a file, or of all files in a directory; empty for an empty path.
func digestOf(path string) string {
	if path == "" {
		return ""
	}
	h := sha256.New()
	walk(root{path, schemaDepth}, func(path string, info os.FileInfo) {
		if info == nil || info.IsDir() {
			return
		}
		file, err := plainfile.Read(path, "schema", schemas.MaxFileBytes)
		fmt.Fprintf(h, "%q %v %d\n", path, err, len(file.Data))
		_, _ = h.Write(file.Data)
	})
	return string(h.Sum(nil))
}

// plan is all settings of a Thing. A Thing with another plan is stopped and made again.
type plan struct {
	thing    Thing
	mqtt     MQTT
	fleets   Fleets
	shadow   Shadow
	commands Commands
	digest   string // of its own schemas
}

func newPlan(c *Config, t Thing, own ownSchemas) plan {
	return plan{t, c.MQTT, c.Fleets, c.Shadow, c.Commands, own.digest}
}

func named(ts []*thing) []mapping.Thing {
	out := make([]mapping.Thing, len(ts))
	for i, t := range ts {
		out[i] = t.bridge.Name
	}
	return out
}

func (p plan) name() mapping.Thing { return mapping.Thing(p.thing.Name) }

// names lists the configured Things.
func (c *Config) names() []mapping.Thing {
	out := make([]mapping.Thing, len(c.Things))
	for i, t := range c.Things {
		out[i] = mapping.Thing(t.Name)
	}
	return out
}

// difference is what a new configuration changes.
type difference struct {
	keys                                   []string // that differ, but for things and local.users
	users                                  []access.User
	usersAdded, usersRemoved, usersChanged int
	added                                  []plan
	removed                                []*thing
	changed                                []*thing // with another plan
	plans                                  map[mapping.Thing]plan
}

// compare finds out what is different, and refuses what a running gateway can't change.
func (g *Gateway) compare(cfg *Config, own map[mapping.Thing]ownSchemas) (difference, error) {
	d := difference{plans: map[mapping.Thing]plan{}}
	var problems Problems
	fixed := func(path string) {
		problems = append(problems, Problem{Path: path, Message: "can't change while the bridge runs: restart it, or write what was there"})
	}
	differences(reflect.ValueOf(g.cfg).Elem(), reflect.ValueOf(cfg).Elem(), "", false, func(path string, isFixed bool) {
		d.keys = append(d.keys, path)
		if isFixed || path == "log.level" && g.Level == nil {
			fixed(path)
		}
	})
	if err := g.compareUsers(cfg, &d); err != nil {
		problems = append(problems, Problem{Path: "local.users", Message: err.Error()})
	}
	if len(problems) > 0 {
		return d, problems
	}
	for _, t := range cfg.Things {
		p := newPlan(cfg, t, own[mapping.Thing(t.Name)])
		if !g.ours(p.name()) {
			continue
		}
		d.plans[p.name()] = p
		i := slices.IndexFunc(g.all(), func(t *thing) bool { return t.bridge.Name == p.name() })
		switch {
		case i < 0:
			d.added = append(d.added, p)
		case !reflect.DeepEqual(g.all()[i].plan, p):
			d.changed = append(d.changed, g.all()[i])
		}
	}
	for _, t := range g.all() {
		if _, stays := d.plans[t.bridge.Name]; !stays {
			d.removed = append(d.removed, t)
		}
	}
	return d, nil
}

// compareUsers finds out which users are different, and refuses what a running server can't change.
func (g *Gateway) compareUsers(cfg *Config, d *difference) error {
	d.users = cfg.LocalUsers()
	if g.server != nil && (len(g.cfg.Local.Users) == 0) != (len(d.users) == 0) {
		return embedded.ErrUsersNeedRestart
	}
	if err := access.CheckUsers(d.users); err != nil {
		return err
	}
	before := map[string]access.User{}
	for _, u := range g.cfg.LocalUsers() {
		before[u.Name] = u
	}
	for _, u := range d.users {
		was, there := before[u.Name]
		switch {
		case !there:
			d.usersAdded++
		case !u.Same(was):
			d.usersChanged++
		}
		delete(before, u.Name)
	}
	d.usersRemoved = len(before)
	return nil
}

// differences calls f for each key that is not the same; things and local are compared elsewhere.
func differences(a, b reflect.Value, path string, fixed bool, f func(path string, fixed bool)) {
	for _, k := range keys(a.Type()) {
		at := join(path, k.name)
		x, y := a.Field(k.index), b.Field(k.index)
		switch {
		case at == "things" || at == "local":
		case section(x.Type()):
			differences(x, y, at, fixed || k.fixed, f)
		case !reflect.DeepEqual(x.Interface(), y.Interface()):
			f(at, fixed || k.fixed)
		}
	}
}
