package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"fleetbridge/bridge"
	"fleetbridge/bridge/cloud"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/plainfile"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// Thing Types of the Fleets HTTP API. Each that a Thing names is kept as a file in the store directory, and only that file
// counts: a start needs no API, and a Thing whose Thing Type was never there works without.

// typesDir is the directory of them, in the store directory.
const typesDir = "thing-types"

// maxTypeName is how many bytes a name may have, as in Fleets.
const maxTypeName = 255

// maxTypeText is how many bytes of what the API says a line of the log has.
const maxTypeText = 1024

// The first and the longest pause until a Thing Type that can't be had is asked for again.
const (
	typePause    = 30 * time.Second
	typePauseMax = time.Hour
)

// keptType is the file of a Thing Type; empty for an empty name. File systems that fold case keep two names apart, too.
func (c *Config) keptType(name string) string {
	if name == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(name))
	token := mapping.Token(name)
	return filepath.Join(c.NATS.Embedded.StoreDir, typesDir, token[:min(len(token), 100)]+"."+hex.EncodeToString(sum[:8])+".json")
}

// typeName checks the name of a Thing Type.
func (v *validator) typeName(path string, t *Thing) {
	name := t.TypeName
	switch {
	case name == "" || v.broken(path):
	case t.ThingType != "":
		v.problem(path, "is given beside thing_type, keep one of them")
	case v.Fleets.URL == "" && !v.broken("fleets"):
		v.problem(path, "needs fleets.url, where Thing Types come from; or save the Thing Type as a file, and write thing_type")
	case len(name) > maxTypeName:
		v.problem(path, "has %d bytes, a Thing Type's name has at most %d", len(name), maxTypeName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		v.problem(path, "has characters that can't be printed")
	}
}

// TypeNames are the Thing Types of the API that Things name, in order.
func (c *Config) TypeNames() (out []string) {
	for _, t := range c.Things {
		if t.TypeName != "" {
			out = append(out, t.TypeName)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// fetchTypes asks the API for the Thing Types, at the start and after each reload, until ctx ends. One that can't be had is
// asked for again, with growing pauses. One that checks other things than the kept one is put in force.
func (g *Gateway) fetchTypes(ctx context.Context) {
	f := typeFetcher{g, map[string]typeState{}}
	pause, reloads := typePause, g.reloads.Load()
	which := func(typeState) bool { return true }
	var later <-chan time.Time
	for {
		if again := f.round(ctx, which, pause); again > 0 {
			later = time.After(again)
		}
		select {
		case <-ctx.Done():
			return
		case <-g.reread: // by the registry, or for a Thing Type that came, only new names are asked for
			which = func(s typeState) bool { return s == typeUnsaid }
			if n := g.reloads.Load(); n != reloads {
				pause, reloads = typePause, n
				which = func(typeState) bool { return true }
			}
		case <-later:
			pause, later = min(2*pause, typePauseMax), nil
			which = func(s typeState) bool { return s != typeFetched }
		}
	}
}

// typeState is what was said last of a Thing Type.
type typeState int

const (
	typeUnsaid typeState = iota
	typeFetched
	typeMissing
)

type typeFetcher struct {
	g    *Gateway
	said map[string]typeState
}

// round asks once for each Thing Type of which the last said is one of which. It returns when to ask again for those that could
// not be had: after pause, or later if the API wants that; 0: there are none.
func (f *typeFetcher) round(ctx context.Context, which func(typeState) bool, pause time.Duration) (again time.Duration) {
	cfg := f.g.Config()
	names := slices.DeleteFunc(cfg.TypeNames(), func(name string) bool { return !which(f.said[name]) })
	if len(names) == 0 {
		return 0
	}
	api, err := cfg.Fleets.Open()
	if err != nil { // the configuration was validated
		f.g.log.Warn("Thing Types can't be fetched", "error", err)
		return 0
	}
	defer api.Close()
	changed := false
	for _, name := range names {
		text, t, err := f.fetch(ctx, api, name)
		if ctx.Err() != nil {
			return 0
		}
		other := false
		if err == nil {
			other, err = cfg.keepType(name, text)
		}
		if err != nil {
			again = max(again, pause)
			if later := (*bridge.RetryLater)(nil); errors.As(err, &later) {
				again = max(again, later.After)
			}
			f.missing(cfg, name, err)
			continue
		}
		changed = changed || other
		f.fetched(name, t, other)
	}
	if changed {
		if err := f.g.Reload(ctx, nil); err != nil && !errors.Is(err, errStopping) && ctx.Err() == nil {
			f.g.log.Error("a Thing Type was fetched and is not in force, until the next reload", "error", err)
		}
	}
	return again
}

// fetch returns a Thing Type that the bridge can use, as it was received, too.
func (f *typeFetcher) fetch(ctx context.Context, api *cloud.API, name string) ([]byte, *schemas.ThingType, error) {
	text, err := api.ThingType(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	_, t, err := f.g.catalog.MakeThingType("what the API has", text)
	return text, t, err
}

// keepType writes the file of a Thing Type, and reports whether it was another before.
func (c *Config) keepType(name string, text []byte) (changed bool, err error) {
	path := c.keptType(name)
	if kept, err := plainfile.Read(path, "Thing Type", schemas.MaxFileBytes); err == nil && sameChecks(kept.Data, text) {
		return false, nil
	}
	if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
		changed, err = plainfile.Replace(path, text, schemas.MaxFileBytes)
	}
	if err != nil {
		return false, fmt.Errorf("it can't be kept: %w", err)
	}
	return changed, nil
}

// sameChecks reports whether two Thing Types have the same schema. What else an API sends may differ each time, such as times
// or the order of members, and no Thing is to connect again for that.
func sameChecks(a, b []byte) bool {
	schema := func(text []byte) any {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber() // whole numbers of any size
		var t map[string]any
		if d.Decode(&t) != nil {
			return nil
		}
		return t["schema"]
	}
	x := schema(a)
	return x != nil && reflect.DeepEqual(x, schema(b))
}

func (f *typeFetcher) fetched(name string, t *schemas.ThingType, changed bool) {
	if f.said[name] == typeFetched && !changed {
		return
	}
	f.said[name] = typeFetched
	f.g.log.Info("Thing Type fetched", "thing_type", name, "version", wire.OneLine(t.Version, maxTypeText), "changed", changed)
	for _, note := range t.Notes {
		f.g.log.Warn("a part of a Thing Type is not understood", "thing_type", name, "part", wire.OneLine(note.String(), maxTypeText))
	}
}

// missing says once that a Thing Type can't be had, and what holds instead.
func (f *typeFetcher) missing(cfg *Config, name string, err error) {
	if f.said[name] == typeMissing {
		f.g.log.Debug("a Thing Type still can't be fetched", "thing_type", name, "error", wire.OneLine(err.Error(), maxTypeText))
		return
	}
	f.said[name] = typeMissing
	instead := "the last known one holds"
	if _, _, err := f.g.catalog.LoadThingType(cfg.keptType(name)); err != nil {
		instead = "nothing is checked by it until it is there"
	}
	f.g.log.Warn("a Thing Type can't be fetched; its Things work", "thing_type", name, "instead", instead, "error", wire.OneLine(err.Error(), maxTypeText))
}
