//go:build unix

// The command examples runs the example programs, each in its language, against the built bridge and
// simulator, and takes them all through one checklist:
//
//	go run ./test/examples -bridge bin/fleetbridge -sim bin/fleetsim
//
// Every program is set up as its README says, in a copy under the user's cache directory, where what its
// tools download and build is kept; remove the directory to begin anew. Then all programs share one bridge,
// each with a Thing of its own, twice: once anybody may connect, once each has a login, is started before
// the bridge, and ended after it. A toolchain that is missing is a failure.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// settings are the command line.
type settings struct {
	bridge, sim, nats string // programs
	examples, cache   string // directories
	only              []string
	logs, prepare     bool
}

func main() {
	s, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "examples: %v\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, s, os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "examples: %v\n", err)
	}
	if err != nil || !ok {
		stop()
		os.Exit(1)
	}
}

func parse(args []string) (settings, error) {
	var s settings
	f := flag.NewFlagSet("examples", flag.ExitOnError)
	f.StringVar(&s.bridge, "bridge", "bin/fleetbridge", "the built bridge, `FILE`")
	f.StringVar(&s.sim, "sim", "bin/fleetsim", "the built simulator, `FILE`")
	f.StringVar(&s.nats, "nats", "", "the nats command line, `FILE` (default: the one in PATH)")
	f.StringVar(&s.examples, "examples", "examples", "the examples, `DIRECTORY`")
	f.StringVar(&s.cache, "cache", "", "where the programs are built, `DIRECTORY` (default: in the user's cache directory)")
	f.BoolVar(&s.logs, "logs", false, "print what every program printed, also when all is well")
	f.BoolVar(&s.prepare, "prepare", false, "only set up, which may need the network")
	only := f.String("only", "", "`LANGUAGES` to run, with commas between them (default all)")
	_ = f.Parse(args)
	if s.cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return s, fmt.Errorf("-cache is not given: %w", err)
		}
		s.cache = filepath.Join(base, "fleetbridge-examples")
	}
	for _, path := range []*string{&s.bridge, &s.sim, &s.nats, &s.examples, &s.cache} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return s, err
		}
	}
	for name := range strings.SplitSeq(*only, ",") {
		if name == "" {
			continue
		}
		if !slices.ContainsFunc(languages, func(l language) bool { return l.name == name }) {
			return s, fmt.Errorf("-only: there is no example in %s", name)
		}
		s.only = append(s.only, name)
	}
	return s, nil
}

// run sets up every example, takes those that could be set up through the checklist, and prints the table.
func run(ctx context.Context, s settings, out io.Writer) (ok bool, err error) {
	var chosen []language
	for _, l := range languages {
		if len(s.only) == 0 || slices.Contains(s.only, l.name) {
			chosen = append(chosen, l)
		}
	}
	ready, t := prepare(ctx, s, chosen)
	if s.prepare {
		return t.print(out, false), context.Cause(ctx)
	}
	worlds := []*world{{name: "open"}, {name: "login", login: true}}
	var each sync.WaitGroup
	errs := make([]error, len(worlds))
	for i, w := range worlds {
		each.Go(func() { errs[i] = w.run(ctx, s, ready, t) })
	}
	each.Wait()
	ok = t.print(out, s.logs)
	return ok, cmp.Or(errs[0], errs[1], context.Cause(ctx))
}

// prepare sets up the examples, all at once, and returns those that worked; what did not is in the table.
func prepare(ctx context.Context, s settings, all []language) ([]language, *table) {
	t := &table{}
	errs := make([]error, len(all))
	took := make([]time.Duration, len(all))
	var each sync.WaitGroup
	for i, l := range all {
		each.Go(func() {
			began := time.Now()
			errs[i] = l.setUp(ctx, s)
			took[i] = time.Since(began)
		})
	}
	each.Wait()
	var ready []language
	for i, l := range all {
		t.setup(l.name, took[i], errs[i])
		if errs[i] == nil {
			ready = append(ready, l)
		}
	}
	return ready, t
}
