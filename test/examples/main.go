//go:build unix

// The command examples checks every example program with fleetsim conform, and the built bridge and simulator:
//
//	go run ./test/examples -bridge bin/fleetbridge -sim bin/fleetsim
//
// Every program is set up as its README says, in a copy under the user's cache directory, where what its
// tools download and build is kept; remove the directory to begin anew. Then each runs twice, with a bridge and a Thing of
// its own: once anybody may connect, once it has a login. A toolchain that is missing is a failure.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
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

// run sets up every example, takes those that could be set up through the list, and prints what came of it.
func run(ctx context.Context, s settings, out io.Writer) (ok bool, err error) {
	var chosen []language
	for _, l := range languages {
		if len(s.only) == 0 || slices.Contains(s.only, l.name) {
			chosen = append(chosen, l)
		}
	}
	ready := prepare(ctx, s, chosen, out)
	ok = len(ready) == len(chosen)
	if s.prepare {
		return ok, context.Cause(ctx)
	}
	var each sync.WaitGroup
	var print sync.Mutex
	for _, l := range ready {
		for _, login := range []bool{false, true} {
			each.Go(func() {
				said, err := l.conforms(ctx, s, login)
				print.Lock()
				defer print.Unlock()
				name := l.name + map[bool]string{true: ", login"}[login]
				if err == nil {
					lines := strings.Split(strings.TrimSpace(said), "\n")
					fmt.Fprintf(out, "pass  %-18s %s\n", name, lines[len(lines)-1])
				} else {
					fmt.Fprintf(out, "FAIL  %-18s %v\n", name, err)
				}
				if err != nil || s.logs {
					fmt.Fprint(out, indent(said))
				}
				ok = ok && err == nil
			})
		}
	}
	each.Wait()
	return ok, context.Cause(ctx)
}

// conforms runs a program under fleetsim conform, and returns what that has printed. What everybody else has printed is in
// the cache directory.
func (l language) conforms(ctx context.Context, s settings, login bool) (said string, err error) {
	logs := filepath.Join(s.cache, "logs", l.name+map[bool]string{true: "-login"}[login])
	if err := os.MkdirAll(filepath.Dir(logs), 0o755); err != nil {
		return "", err
	}
	record := logs + ".json"
	words := []string{
		"conform", "--device", filepath.Join(s.examples, "thermostat.json"), "--over-nats", "--bridge", s.bridge,
		"--thing", "thermostat " + l.name + ".é", "--record", record, "--output", logs + ".log", "--junit", logs + ".xml",
	}
	if login {
		words = append(words, "--login")
	}
	cmd := exec.CommandContext(ctx, s.sim, append(append(words, "--"), l.run...)...)
	cmd.Dir = l.dir(s)
	if strings.Contains(l.run[0], "/") {
		cmd.Args[len(cmd.Args)-len(l.run)] = filepath.Join(cmd.Dir, l.run[0])
	}
	path := os.Getenv("PATH")
	if s.nats != "" {
		path = filepath.Dir(s.nats) + string(filepath.ListSeparator) + path
	}
	cmd.Env = append(os.Environ(), "PATH="+path, "XDG_CONFIG_HOME="+s.cache, "PYTHONUNBUFFERED=1", "PAUSE=0.3")
	printed, err := cmd.CombinedOutput()
	if err == nil {
		err = gapless(record)
	}
	return string(printed), err
}

func indent(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString("  " + strings.TrimRight(line, "\n") + "\n")
	}
	return out.String()
}

// prepare sets up the examples, all at once, and returns those that worked; it prints why others did not.
func prepare(ctx context.Context, s settings, all []language, out io.Writer) (ready []language) {
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
	for i, l := range all {
		fmt.Fprintf(out, "%-10s set up in %.1f s\n", l.name, took[i].Seconds())
		if errs[i] != nil {
			fmt.Fprintf(out, "FAIL  %-18s set up: %v\n", l.name, errs[i])
			continue
		}
		ready = append(ready, l)
	}
	return ready
}
