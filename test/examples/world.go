//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// world is a simulator, a bridge, and all programs, each with a Thing of its own.
type world struct {
	name  string
	login bool // programs have logins, are started before the bridge, and ended after it

	settings
	dir               string
	mqtt, api         string // host:port
	nats, health      string
	simulator, bridge *process
	log, heard        output // of the bridge; of the simulator, with every payload
	programs          []*program
}

// program is an example that runs.
type program struct {
	*process
	*row
	cloud
	language language
	heard    *output
	patience time.Duration
}

// Times that nobody needs on an idle machine.
const (
	patience     = 30 * time.Second
	recovery     = time.Minute // a request that the bridge has died over is given up after 15 s
	stopPatience = 10 * time.Second
)

// outage is for how long the bridge is gone: longer than programs wait for a PubAck.
const outage = 6 * time.Second

// run takes every program through the checklist. The error is about what is not the programs' fault.
func (w *world) run(ctx context.Context, s settings, languages []language, t *table) (err error) {
	if len(languages) == 0 {
		return nil
	}
	w.settings = s
	if w.dir, err = os.MkdirTemp("", "fleetbridge-examples-"); err != nil {
		return err
	}
	defer os.RemoveAll(w.dir)
	for _, l := range languages {
		w.programs = append(w.programs, &program{row: t.row(l.name, w.name), language: l, heard: &w.heard, patience: patience})
	}
	err = w.checks(ctx)
	w.killAll()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", w.name, err, indent(tail(w.log.String(), 20)))
	}
	return errors.Join(err, w.keepLogs())
}

// keepLogs writes what everybody has printed into the cache directory, in the place of what was there.
func (w *world) keepLogs() error {
	dir := filepath.Join(w.cache, "logs", w.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	all := map[string]*output{"bridge": &w.log, "simulator": &w.heard}
	for _, p := range w.programs {
		all[p.language.name] = p.out()
	}
	for name, out := range all {
		if err := os.WriteFile(filepath.Join(dir, name+".log"), []byte(out.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) checks(ctx context.Context) error {
	if err := w.configure(); err != nil {
		return err
	}
	if !w.login {
		if err := w.startBridge(ctx); err != nil {
			return err
		}
	}
	for _, p := range w.programs {
		if err := w.startProgram(p); err != nil {
			return err
		}
	}
	if w.login {
		if err := w.startBridge(ctx); err != nil {
			return err
		}
	}
	w.each(func(p *program) { p.everyFlow(ctx) })
	w.each(func(p *program) { p.beginJob(ctx) })
	w.bridge.kill()
	w.each(func(p *program) { p.meanwhile() })
	if err := rest(ctx, outage); err != nil {
		return err
	}
	if err := w.startBridge(ctx); err != nil {
		return err
	}
	w.each(func(p *program) { p.goesOn(ctx) })
	return w.end(ctx)
}

// end stops the programs, and looks for what the bridge has refused.
func (w *world) end(ctx context.Context) error {
	dead, err := exec.CommandContext(ctx, w.settings.bridge, "dead", "ls", "--config", filepath.Join(w.dir, "fleetbridge.yaml")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("dead ls: %w: %s", err, dead)
	}
	number := syscall.SIGTERM
	if w.login {
		number = syscall.SIGINT
		if err := w.bridge.stop(syscall.SIGTERM, stopPatience); err != nil {
			return err
		}
	}
	w.each(func(p *program) {
		p.check(checkClean, func() error {
			for line := range strings.Lines(string(dead)) {
				if strings.Contains(line, p.thing) {
					return errors.New(strings.TrimSpace(line))
				}
			}
			return nil
		})
		p.check(checkStop, func() error { return p.stop(number, stopPatience) })
	})
	if !w.login {
		return w.bridge.stop(syscall.SIGTERM, stopPatience)
	}
	return nil
}

func (w *world) each(f func(*program)) {
	var all sync.WaitGroup
	for _, p := range w.programs {
		all.Go(func() { f(p) })
	}
	all.Wait()
}

// configure finds ports, starts the simulator, and writes the bridge's configuration.
func (w *world) configure() error {
	for _, address := range []*string{&w.mqtt, &w.api, &w.nats, &w.health} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close() // when all are found
		*address = l.Addr().String()
	}
	var yaml strings.Builder
	fmt.Fprintf(&yaml, "mqtt: {server: \"mqtt://%s\"}\n", w.mqtt)
	fmt.Fprintf(&yaml, "fleets: {url: \"http://%s\", api_key: %s, api_secret: %s}\n", w.api, apiKey, apiSecret)
	fmt.Fprintf(&yaml, "nats: {embedded: {listen: %q, store_dir: store}}\n", w.nats)
	fmt.Fprintf(&yaml, "http: {listen: %q}\nconsole: {listen: \"\"}\n", w.health)
	yaml.WriteString("commands: {handler_wait: 10s} # what was restarted finds the bridge only after a moment\n")
	yaml.WriteString("things:\n")
	for _, p := range w.programs {
		// A name that has to be escaped.
		p.cloud = cloud{base: "http://" + w.api + "/api/v1", thing: "thermostat " + p.language.name + ".é"}
		fmt.Fprintf(&yaml, "  - {name: %q, client_id: thermostat-%s}\n", p.thing, p.language.name)
	}
	if w.login {
		yaml.WriteString("local:\n  users:\n")
		for _, p := range w.programs {
			fmt.Fprintf(&yaml, "    - {name: %s, password: %q, things: [%q]}\n", p.language.name, p.password(), p.thing)
		}
	}
	return os.WriteFile(filepath.Join(w.dir, "fleetbridge.yaml"), []byte(yaml.String()), 0o600)
}

func (p *program) password() string { return "the password of " + p.language.name }

// startBridge starts the bridge, and the simulator unless it runs, and waits until both are ready.
func (w *world) startBridge(ctx context.Context) (err error) {
	if w.simulator == nil {
		words := []string{w.sim, "--mqtt", w.mqtt, "--http", w.api, "--api-key", apiKey, "--api-secret", apiSecret, "--log-level", "debug"}
		for _, p := range w.programs {
			words = append(words, "--thing", p.thing)
		}
		if w.simulator, err = start("fleetsim", w.dir, os.Environ(), words, &w.heard); err != nil {
			return err
		}
		answers := func() error { _, err := w.programs[0].events(); return err }
		if err := until(ctx, w.simulator, patience, answers); err != nil {
			return err
		}
	}
	words := []string{w.settings.bridge, "run", "--config", filepath.Join(w.dir, "fleetbridge.yaml")}
	if w.bridge, err = start("fleetbridge", w.dir, os.Environ(), words, &w.log); err != nil {
		return err
	}
	return until(ctx, w.bridge, patience, func() error {
		response, err := http.Get("http://" + w.health + "/readyz")
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("the bridge is not ready: %s", response.Status)
		}
		return nil
	})
}

// startProgram starts an example as a user would: what it is told is in the environment.
func (w *world) startProgram(p *program) (err error) {
	var env []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "NATS_") && !strings.HasPrefix(variable, "PATH=") {
			env = append(env, variable)
		}
	}
	path := os.Getenv("PATH")
	if w.settings.nats != "" {
		path = filepath.Dir(w.settings.nats) + string(filepath.ListSeparator) + path
	}
	env = append(env, "PATH="+path, "XDG_CONFIG_HOME="+w.dir, "PYTHONUNBUFFERED=1",
		"NATS_URL=nats://"+w.nats, "THING="+p.thing, "PAUSE=0.3")
	if w.login {
		name := p.language.name
		env = append(env, "NATS_USER="+name, "NATS_PASSWORD="+p.password(), "NATS_INBOX_PREFIX=_INBOX_"+name)
	}
	dir := p.language.dir(w.settings)
	words := append([]string{filepath.Join(dir, p.language.run[0])}, p.language.run[1:]...)
	if !strings.Contains(p.language.run[0], "/") {
		words[0] = p.language.run[0]
	}
	p.process, err = start(p.language.name, dir, env, words, p.out())
	return err
}

func (p *program) out() *output { return p.row.out }

// killAll ends what still runs.
func (w *world) killAll() {
	for _, p := range w.programs {
		if p.process != nil {
			p.kill()
		}
	}
	for _, p := range []*process{w.bridge, w.simulator} {
		if p != nil {
			p.kill()
		}
	}
}

// rest waits, or returns why ctx has ended.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
