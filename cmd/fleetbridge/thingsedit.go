package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"fleetbridge/bridge"
	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local"
	"fleetbridge/bridge/local/registry"
	"fleetbridge/internal/plainfile"
	"fleetbridge/mapping"
)

// maxThingsFile is what a file with things: may have.
const maxThingsFile = 1 << 20

// maxThingsAdded is how many Things are added at a time: the bridges take them over while the command waits.
const maxThingsAdded = 5000

// thingsEdit is what add and rm have in common.
type thingsEdit struct {
	*deadTarget
	timeout time.Duration
}

func (e *thingsEdit) flags(c *cobra.Command) {
	c.Flags().DurationVar(&e.timeout, "timeout", 30*time.Second, "how long to wait until the bridges have taken it over")
}

func newThingsAdd(s streams, t *deadTarget) *cobra.Command {
	e := thingsEdit{deadTarget: t}
	var file string
	var replace bool
	c := &cobra.Command{Use: "add NAME… | -f FILE", Short: "Add Things, and wait until a bridge has them",
		Long: "Add Things, and wait until a bridge has them. FILE is like a file of things_dir, but has only things: in it; -\n" +
			"is the standard input. Everything is checked before anything is written, as fleetbridge check does. Settings\n" +
			"that a Thing leaves out come from thing_defaults of the configuration. With nats.url, password_file and tls\n" +
			"always come from there: the bucket has no secrets.",
		Args: cobra.ArbitraryArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			name, text, err := e.source(s, file, args)
			if err != nil {
				return err
			}
			return e.add(c, s, name, text, replace)
		}}
	c.Flags().StringVarP(&file, "file", "f", "", "add the Things of this `FILE`")
	_ = c.MarkFlagFilename("file", "yaml", "yml", "json")
	c.Flags().BoolVar(&replace, "replace", false, "change those that have been added before")
	e.flags(c)
	return c
}

// source is what is to be added, as a file with things:.
func (e *thingsEdit) source(s streams, file string, args []string) (name string, text []byte, err error) {
	switch {
	case (file == "") == (len(args) == 0):
		return "", nil, usagef("things add: write NAME… or -f FILE")
	case file == "":
		var items []map[string]string
		for _, a := range args {
			items = append(items, map[string]string{"name": a})
		}
		text, err = yaml.Marshal(map[string]any{"things": items})
		return "arguments", text, err
	case file == "-":
		text, err = io.ReadAll(io.LimitReader(s.in, maxThingsFile+1))
		return "standard input", text, err
	}
	in, err := plainfile.Read(file, "things", maxThingsFile)
	if err != nil {
		return "", nil, fmt.Errorf("things add: %w", err)
	}
	return file, in.Data, nil
}

func (e *thingsEdit) add(c *cobra.Command, s streams, name string, text []byte, replace bool) error {
	f, err := e.fleet(c)
	if err != nil {
		return err
	}
	defer f.close()
	if f.registry == nil && f.cfg.ThingsDir == "" {
		return fmt.Errorf("things add: %s has no things_dir: write things_dir: things.d into it, make that directory, and try again", e.config)
	}
	items, err := gateway.Items(name, text)
	if len(items) > maxThingsAdded {
		return fmt.Errorf("things add: %s has %d things, and at most %d are added at a time: divide it into several files", name, len(items), maxThingsAdded)
	}
	edit := gateway.Edit{Add: name, Text: text}
	if err == nil && replace && f.registry == nil {
		for _, i := range items {
			if f.cfg.WrittenPart(i.Name()) {
				edit.Without = append(edit.Without, f.cfg.PartPath(i.Name()))
			}
		}
	}
	edited, wrong := gateway.LoadEdited(c.Context(), e.config, os.LookupEnv, edit)
	if wrong != nil {
		c.PrintErrln(wrong)
		return errReported
	}
	if err != nil {
		return err
	}
	for _, w := range edited.Warnings {
		if w.File == name {
			fmt.Fprintf(s.err, "warning: %s\n", printable(fmt.Sprint(w)))
		}
	}
	began, revision := time.Now(), uint64(0)
	if f.registry != nil {
		revision, err = e.register(c.Context(), f, name, items, replace)
	} else {
		err = e.write(c.Context(), f.cfg, items, replace)
	}
	if err != nil {
		return err
	}
	names := make([]string, len(items))
	for i, item := range items {
		names[i] = item.Name()
	}
	return e.wait(c.Context(), s, f, change{names: names, began: began, revision: revision, files: f.registry == nil, added: true})
}

// write makes the files of things_dir, or none.
func (e *thingsEdit) write(ctx context.Context, cfg *gateway.Config, items []gateway.Item, replace bool) error {
	for n, i := range items {
		err := ctx.Err()
		if err == nil {
			err = cfg.WritePart(e.config, i, replace)
		}
		if err != nil {
			if !replace {
				for _, made := range items[:n] {
					err = errors.Join(err, os.Remove(cfg.PartPath(made.Name())))
				}
			}
			return fmt.Errorf("things add: %w", err)
		}
	}
	return nil
}

// register puts Things into the registry that the bridges will take.
func (e *thingsEdit) register(ctx context.Context, f *fleet, name string, items []gateway.Item, replace bool) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, max(thingsPatience, e.timeout))
	defer cancel()
	all, was := map[string][]byte{}, map[string]bool{}
	for _, entry := range f.registry.Entries() {
		all[entry.Key], was[entry.Key] = entry.Value, true
	}
	var added []registry.Entry
	var errs []error
	for _, i := range items {
		value, err := json.Marshal(i)
		if err != nil {
			return 0, err
		}
		key := mapping.Token(i.Name())
		if was[key] && !replace {
			errs = append(errs, fmt.Errorf("things add: %s is in the registry already; use --replace to change it", i.Name()))
		}
		all[key] = value
		added = append(added, registry.Entry{Key: key, Value: value})
	}
	var entries []registry.Entry
	for key, value := range all {
		entries = append(entries, registry.Entry{Key: key, Value: value})
	}
	slices.SortFunc(entries, func(a, b registry.Entry) int { return strings.Compare(a.Key, b.Key) })
	before := map[string]bool{}
	for _, r := range f.refused {
		before[r.Key] = true
	}
	_, refused := f.files.WithRegistry(entries)
	for _, r := range refused {
		isNew := slices.ContainsFunc(added, func(a registry.Entry) bool { return a.Key == r.Key })
		if isNew || !before[r.Key] {
			errs = append(errs, fmt.Errorf("%s: %s: %s", name, cmp.Or(r.Thing, r.Key), r.Reason))
		}
	}
	if len(errs) > 0 {
		return 0, errors.Join(errs...)
	}
	revision, err := f.registry.Put(ctx, added, replace)
	if errors.Is(err, bridge.ErrExists) {
		return 0, fmt.Errorf("things add: somebody has just added the same: %w; use --replace to change it", err)
	}
	if err != nil {
		return 0, fmt.Errorf("things add: %w", err)
	}
	return revision, nil
}

func newThingsRm(s streams, t *deadTarget) *cobra.Command {
	e := thingsEdit{deadTarget: t}
	var force bool
	c := &cobra.Command{Use: "rm NAME…", Short: "Remove Things that were added, and wait until no bridge has them",
		Long: "Remove Things that were added with things add, and wait until no bridge has them. A Thing with messages that\n" +
			"wait for the cloud is not removed. With --force it is: its messages stay stored, and are sent when the Thing is\n" +
			"added again. queue drop removes them.",
		Args: between(1, math.MaxInt, "NAME"), ValidArgsFunction: t.complete,
		RunE: func(c *cobra.Command, args []string) error { return e.remove(c, s, args, force) }}
	c.Flags().BoolVar(&force, "force", false, "also while messages wait, or when that is not known")
	e.flags(c)
	return c
}

func (e *thingsEdit) remove(c *cobra.Command, s streams, names []string, force bool) error {
	f, err := e.fleet(c)
	if err != nil {
		return err
	}
	defer f.close()
	var keys, files []string
	var errs []error
	for _, name := range names {
		from := f.cfg.Origin(name)
		registered := f.registry != nil && slices.ContainsFunc(f.registry.Entries(), func(r registry.Entry) bool { return r.Key == mapping.Token(name) })
		switch {
		case registered:
			keys = append(keys, mapping.Token(name))
		case from == "":
			errs = append(errs, f.unknown(name))
		case f.registry == nil && f.cfg.WrittenPart(name):
			files = append(files, f.cfg.PartPath(name))
		default:
			errs = append(errs, fmt.Errorf("things rm: %s stands in %s, which things add has not written: remove it there", name, from))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if len(files) > 0 {
		if _, err := gateway.LoadEdited(c.Context(), e.config, os.LookupEnv, gateway.Edit{Without: files}); err != nil {
			c.PrintErrln(err)
			return errReported
		}
	}
	waiting, err := f.waiting(c.Context(), names)
	if err != nil && !force {
		return fmt.Errorf("things rm: whether messages wait is not known, --force removes all the same: %w", err)
	}
	for _, name := range names {
		if n := waiting[name]; n > 0 && !force {
			errs = append(errs, fmt.Errorf("things rm: %s: %d messages wait for the cloud (fleetbridge queue show --thing %s); --force removes it all the same, and they are sent when it is added again", name, n, name))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	done := change{names: names, began: time.Now(), files: len(files) > 0, waiting: waiting}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("things rm: %w", err)
		}
	}
	if len(keys) > 0 {
		ctx, cancel := context.WithTimeout(c.Context(), thingsPatience)
		defer cancel()
		if done.revision, err = f.registry.Remove(ctx, keys); err != nil {
			return fmt.Errorf("things rm: %w", err)
		}
	}
	return e.wait(c.Context(), s, f, done)
}

// waiting counts what waits for the cloud of some Things.
func (f *fleet) waiting(ctx context.Context, names []string) (map[string]uint64, error) {
	if f.nc == nil {
		return nil, f.away
	}
	w, err := local.NewWaiting(f.nc, f.subjects)
	if err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for _, name := range names {
		lanes, err := w.Lanes(ctx, mapping.Thing(name), "")
		if err != nil {
			return nil, err
		}
		for _, l := range lanes {
			out[name] += l.Messages
		}
	}
	return out, nil
}

// change is what the bridges are to take over.
type change struct {
	names    []string
	began    time.Time
	revision uint64 // of the registry
	files    bool   // files have changed
	added    bool
	waiting  map[string]uint64
}

// wait returns when the bridges have taken a change over.
func (e *thingsEdit) wait(ctx context.Context, s streams, f *fleet, ch change) error {
	if f.nc == nil {
		fmt.Fprintf(s.err, "%s\nit counts when the bridge starts\n", f.away)
		return ch.print(s, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	for {
		records, answers, err := f.ask(ctx, ch.names)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if ctx.Err() == nil && len(answers) == 0 {
			fmt.Fprintln(s.err, "no bridge answers: it counts when one runs")
			return ch.print(s, nil)
		}
		left, err := ch.look(records, answers)
		if err != nil || left == "" {
			return errors.Join(err, ch.print(s, records))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("things: it is written, but after %v %s; the log of the bridges tells more", e.timeout, left)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// look tells what is left; empty: nothing. An error says that it will not come.
func (ch change) look(records []thingRecord, answers []registry.Standings) (left string, err error) {
	for _, a := range answers {
		if a.Revision < ch.revision {
			return "a bridge has not read the registry", nil
		}
		if a.Refused != "" && a.Reloaded.After(ch.began) {
			return "", fmt.Errorf("things: the bridge refuses its configuration: %s", a.Refused)
		}
		if ch.files && !a.Reloaded.After(ch.began) {
			return "the bridge has not read its files again", nil
		}
	}
	var errs []error
	for _, r := range records {
		switch {
		case ch.added && r.Refused != "":
			errs = append(errs, fmt.Errorf("things: %s: a bridge refuses it: %s", r.Thing, r.Refused))
		case r.Here != ch.added && ch.added:
			left = "no bridge has " + r.Thing
		case r.Here != ch.added:
			left = "a bridge still has " + r.Thing
		}
	}
	if left != "" {
		return left, nil
	}
	return "", errors.Join(errs...)
}

// fewThings is how many are named, and not only counted.
const fewThings = 20

func (ch change) print(s streams, records []thingRecord) error {
	word := "removed"
	if ch.added {
		word = "added"
	}
	if len(ch.names) > fewThings {
		_, err := fmt.Fprintf(s.out, "%d Things %s\n", len(ch.names), word)
		return err
	}
	for i, name := range ch.names {
		text := printable(name) + " " + word
		if ch.added && records != nil && records[i].Here && records[i].Bridge != "" {
			text += ", at " + printable(records[i].Bridge)
		}
		if n := ch.waiting[name]; n > 0 {
			text += fmt.Sprintf("; %d messages stay stored until it is added again", n)
		}
		if _, err := fmt.Fprintln(s.out, text); err != nil {
			return err
		}
	}
	return nil
}
