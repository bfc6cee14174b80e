package journal_test

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"fleetbridge/bridge/journal"
	"fleetbridge/internal/race"
)

var (
	seed  = flag.Uint64("seed", 0, "the only history that is simulated, and told; 0: -seeds of them")
	seeds = flag.Uint64("seeds", uint64(race.Part(150)), "how many histories are simulated")
)

// TestSimulate runs histories of appending, settling, crashes, and a disk that lies, and holds what the journal says
// against a model. A history is the same each time.
func TestSimulate(t *testing.T) {
	if *seed != 0 {
		told, err := simulate(t, *seed, simulation{})
		t.Log(strings.Join(told, "\n"))
		if err != nil {
			t.Error(err)
		}
		return
	}
	for n := uint64(1); n <= *seeds; n++ {
		if _, err := simulate(t, n, simulation{}); err != nil {
			t.Fatalf("seed %d: %v\nto see it again: go test ./bridge/journal -run TestSimulate -v -seed %d", n, err, n)
		}
	}
}

func simulate(t *testing.T, seed uint64, s simulation) (told []string, err error) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(seed, s)
		defer func() {
			told = w.told
			if failure := recover(); failure != nil {
				if f, ok := failure.(contradiction); ok {
					var b strings.Builder
					w.disk.Kill()
					w.mend()
					_ = journal.DumpFS(&b, w.disk.Mount(), "journal")
					err, told = f, append(told, b.String())
				} else {
					panic(failure)
				}
			}
			w.end()
		}()
		w.run()
	})
	return told, err
}

// contradiction is what the judge says when the journal and the model differ.
type contradiction string

func (c contradiction) Error() string { return string(c) }

func fail(format string, v ...any) { panic(contradiction(fmt.Sprintf(format, v...))) }
