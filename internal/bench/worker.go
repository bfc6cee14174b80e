package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
)

// A worker is a process that runs a bridge and is spoken to in lines of JSON: first the Setup, then
// orders. Each line has one answer. The end of the input ends the worker.
type order struct {
	Do   string `json:"do"` // usage, profile, profiled
	Path string `json:"path,omitempty"`
}

type reply struct {
	URL   string `json:"url,omitempty"`
	HTTP  string `json:"http,omitempty"`
	Usage Usage  `json:"usage,omitzero"`
	Error string `json:"error,omitempty"`
}

// Work is a worker's whole life. start runs the bridge that the setup asks for.
func Work(ctx context.Context, in io.Reader, out io.Writer, start func(context.Context, Setup) (Contender, error)) (err error) {
	lines, answers := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	var s Setup
	if err := lines.Decode(&s); err != nil {
		return fmt.Errorf("reading the setup: %w", err)
	}
	c, err := start(ctx, s)
	if err != nil {
		return errors.Join(answers.Encode(reply{Error: err.Error()}), err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := answers.Encode(reply{URL: c.URL(), HTTP: c.HTTP()}); err != nil {
		return err
	}
	var profile *os.File
	defer func() {
		if profile != nil {
			pprof.StopCPUProfile()
			_ = profile.Close()
		}
	}()
	for {
		var o order
		if err := lines.Decode(&o); err != nil {
			return nil // the other side has ended
		}
		var r reply
		err := error(nil)
		switch o.Do {
		case "usage":
			r.Usage, err = SelfUsage()
		case "profile":
			if profile, err = os.Create(o.Path); err == nil {
				err = pprof.StartCPUProfile(profile)
			}
		case "profiled":
			pprof.StopCPUProfile()
			err = profile.Close()
			profile = nil
		default:
			err = fmt.Errorf("order %q is unknown", o.Do)
		}
		if err != nil {
			r.Error = err.Error()
		}
		if err := answers.Encode(r); err != nil {
			return err
		}
	}
}
