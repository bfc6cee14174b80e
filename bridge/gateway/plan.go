package gateway

import (
	"crypto/sha256"
	"fmt"
	"os"
	"reflect"
	"slices"

	"fleetbridge/bridge/local"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// ownSchemas are the schemas that a Thing brings, and what tells them from others.
type ownSchemas struct {
	schemas *schemas.ThingSchemas
	digest  string
}

// loadSchemas compiles what the Things bring.
func (g *Gateway) loadSchemas(cfg *Config) (map[mapping.Thing]ownSchemas, error) {
	out := map[mapping.Thing]ownSchemas{}
	for _, t := range cfg.Things {
		if t.SchemaDir == "" {
			continue
		}
		digest := digestOf(t.SchemaDir) // before it is read: a change in between shows at the next reload
		own, err := g.catalog.LoadThing(t.SchemaDir)
		if err != nil {
			return nil, fmt.Errorf("schemas of thing %q: %w", t.Name, err)
		}
		out[mapping.Thing(t.Name)] = ownSchemas{own, digest}
	}
	return out, nil
}

func digestOf(dir string) string {
	h := sha256.New()
	walk(root{dir, schemaDepth}, func(path string, info os.FileInfo) {
		if info == nil || info.IsDir() {
			return
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(h, "%q %v %d\n", path, err, len(data))
		_, _ = h.Write(data)
	})
	return string(h.Sum(nil))
}

// plan is all that a Thing is made of. One whose plan is another is made anew.
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

func (d difference) addedNames() []mapping.Thing {
	out := make([]mapping.Thing, len(d.added))
	for i, p := range d.added {
		out[i] = p.name()
	}
	return out
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
	keys    []string // that differ, but for things and local.users
	added   []plan
	removed []*thing
	changed []*thing // with another plan
	plans   map[mapping.Thing]plan
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
	if !sameUsers(g.cfg, cfg) {
		fixed("local.users")
	}
	if len(problems) > 0 {
		return d, problems
	}
	for _, t := range cfg.Things {
		p := newPlan(cfg, t, own[mapping.Thing(t.Name)])
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

// sameUsers tells whether the users are the same, but for the Things that were added or removed: their rights
// are the server's, which learns them at its start.
func sameUsers(a, b *Config) bool {
	return slices.EqualFunc(a.LocalUsers(), b.LocalUsers(), func(x, y local.User) bool {
		both := func(t mapping.Thing) bool { return slices.Contains(a.names(), t) && slices.Contains(b.names(), t) }
		x.Things = slices.DeleteFunc(x.Things, func(t mapping.Thing) bool { return !both(t) })
		y.Things = slices.DeleteFunc(y.Things, func(t mapping.Thing) bool { return !both(t) })
		slices.Sort(x.Things)
		slices.Sort(y.Things)
		return x.Name == y.Name && x.Password == y.Password && x.NKey == y.NKey && slices.Equal(x.Allow, y.Allow) && slices.Equal(x.Things, y.Things)
	})
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
