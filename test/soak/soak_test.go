package soak

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fleetbridge/fleetsim"
)

var (
	allFlag   = flag.Bool("all", false, "run all scenarios, not only one of each sort; -soak does so, too")
	soakFlag  = flag.Duration("soak", 0, "how long to go on, over all scenarios together; 0: each once, in short form")
	seedFlag  = flag.Uint64("seed", 1, "the first round's seed")
	onlyFlag  = flag.String("only", "", "comma-separated names of the scenarios to run, or of sorts of them, such as cluster; empty: see -all")
	tableFlag = flag.String("table", "", "file for the table as Markdown, relative to the module; its block between the markers soak:begin and soak:end is replaced")
)

func TestSoak(t *testing.T) {
	chosen := choose(t, Scenarios(), *onlyFlag)
	rows := make([]*Row, len(chosen))
	began := time.Now()
	t.Run("scenario", func(t *testing.T) {
		var waiting sync.WaitGroup
		defer waiting.Wait()
		for i, s := range chosen {
			rows[i] = &Row{Scenario: s}
			if *soakFlag == 0 && s.Waits {
				waiting.Go(func() { t.Run(s.Name, func(t *testing.T) { round(t, rows[i], *seedFlag, false) }) })
				continue
			}
			t.Run(s.Name, func(t *testing.T) {
				if *soakFlag > 0 {
					soak(t, rows[i], *soakFlag/time.Duration(len(chosen)))
					return
				}
				t.Parallel()
				round(t, rows[i], *seedFlag, false)
			})
		}
	})
	t.Logf("in %v:\n%s", time.Since(began).Round(time.Second), Text(rows))
	if *tableFlag != "" {
		heading := fmt.Sprintf("%s in all, seeds from %d, %s.", time.Since(began).Round(time.Minute), *seedFlag, began.Format(time.DateOnly))
		if err := WriteTable(filepath.Join("..", "..", *tableFlag), heading, rows); err != nil {
			t.Fatal(err)
		}
	}
}

func choose(t *testing.T, all []Scenario, only string) []Scenario {
	switch {
	case only != "":
	case *allFlag || *soakFlag > 0:
		return slices.DeleteFunc(all, func(s Scenario) bool { return s.Apart })
	default:
		return slices.DeleteFunc(all, func(s Scenario) bool { return !s.Common })
	}
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	var chosen []Scenario
	for name := range strings.SplitSeq(only, ",") {
		found := slices.DeleteFunc(slices.Clone(all), func(s Scenario) bool { return s.Name != name && !strings.HasPrefix(s.Name, name+": ") })
		if len(found) == 0 {
			t.Fatalf("-only %q: no such scenario; there are %s", name, strings.Join(names, ", "))
		}
		chosen = append(chosen, found...)
	}
	return chosen
}

// soak repeats a scenario until its time is over, at least once.
func soak(t *testing.T, row *Row, d time.Duration) {
	end := time.Now().Add(d)
	for n := uint64(0); n == 0 || time.Now().Before(end); n++ {
		seed := *seedFlag + n
		if !t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { round(t, row, seed, true) }) {
			break
		}
	}
	fmt.Fprintf(os.Stdout, "%s", Text([]*Row{row}))
}

// round runs a scenario once.
func round(t *testing.T, row *Row, seed uint64, long bool) {
	most := max(patience, row.Patience)
	if !long {
		most /= 2
	}
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	w := &World{
		T: t, Seed: seed, Random: rand.New(rand.NewPCG(seed, 0)), Ledger: fleetsim.NewLedger(), Long: long, ctx: ctx,
	}
	// A scenario that gives up counts, too.
	defer func() {
		row.add(w)
		if t.Failed() {
			t.Logf("once more: go test ./test/soak -run Soak -only %s -seed %d%s", row.Name, seed, map[bool]string{true: " -soak 1s"}[long])
			for _, lane := range w.Ledger.Report().Lanes {
				t.Logf("%+v", lane)
			}
		}
	}()
	row.Run(w)
	w.settle()
}
