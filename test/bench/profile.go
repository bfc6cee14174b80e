package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"fleetbridge/internal/bench"
)

// profile prints where the bridge spends its time: the ten functions themselves, and the ten costliest
// calls within this project and the NATS server.
func (p plan) profile(ctx context.Context) error {
	for _, k := range []bench.Kind{bench.Down, bench.Up} {
		path := filepath.Join(p.dir, string(k)+".pprof")
		r, err := p.measure(ctx, trial{contender: synced, broker: onFree, load: p.load(k, 1), profile: path})
		if err != nil {
			return err
		}
		p.printf("**%s, a broker that costs nothing, %d bytes: %s/s, %s a message**\n", way(k), p.size, grouped(r.Rate()), micros(r.Each(r.Subject)))
		for _, list := range [][]string{{"-flat"}, {"-cum", `-show=fleetbridge/|nats-server/|nats\.go`}} {
			out, err := p.top(ctx, path, list...)
			if err != nil {
				return err
			}
			p.printf("\n```\n%s```\n", out)
		}
		p.printf("\n")
	}
	return nil
}

func (p plan) top(ctx context.Context, path string, options ...string) (string, error) {
	args := append([]string{"tool", "pprof", "-top", "-nodecount=10"}, options...)
	cmd := exec.CommandContext(ctx, "go", append(args, p.self, path)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+p.dir)
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go tool pprof: %w: %s", err, strings.TrimSpace(errs.String()))
	}
	_, list, ok := strings.Cut(out.String(), "      flat ")
	if !ok {
		return out.String(), nil
	}
	return "      flat " + list, nil
}
