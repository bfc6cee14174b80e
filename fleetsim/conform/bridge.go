package conform

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"fleetbridge/fleetsim"
)

// bridge is the built fleetbridge in a process of its own, between the cloud and a program that speaks NATS.
type bridge struct {
	binary, dir  string
	nats, health string // host:port
	out          *tail
	*process
}

// user is the login of the program, with Options.Login.
const user, password = "device", "the password of the device"

// configure writes the configuration. It starts nothing.
func (r *run) configureBridge() (err error) {
	b := &bridge{binary: r.Bridge, out: &tail{to: r.Output}}
	if b.dir, err = os.MkdirTemp("", "fleetsim-conform-"); err != nil {
		return err
	}
	r.bridge = b
	for _, address := range []*string{&b.nats, &b.health} {
		if *address, err = fleetsim.FreeAddress(); err != nil {
			return err
		}
	}
	var yaml strings.Builder
	fmt.Fprintf(&yaml, "mqtt: {server: %q}\n", r.sim.BrokerURL())
	fmt.Fprintf(&yaml, "fleets: {url: %q, api_key: %s, api_secret: %s}\n", r.sim.HTTPURL(), apiKey, apiSecret)
	fmt.Fprintf(&yaml, "nats: {embedded: {listen: %q, store_dir: %q}}\n", b.nats, filepath.Join(b.dir, "store"))
	fmt.Fprintf(&yaml, "http: {listen: %q}\n", b.health)
	yaml.WriteString("commands: {handler_wait: 10s} # what was restarted finds the bridge only after a moment\n")
	fmt.Fprintf(&yaml, "things: [{name: %q, client_id: %q}]\n", r.Thing, r.Thing)
	if r.Login {
		fmt.Fprintf(&yaml, "local: {users: [{name: %s, password: %q, things: [%q]}]}\n", user, password, r.Thing)
	}
	return os.WriteFile(b.config(), []byte(yaml.String()), 0o600)
}

func (b *bridge) config() string { return filepath.Join(b.dir, "fleetbridge.yaml") }

// start returns when the bridge is ready.
func (b *bridge) start(ctx context.Context, patience time.Duration) (err error) {
	if b.process, err = startProcess("fleetbridge", []string{b.binary, "run", "--config", b.config()}, nil, b.out); err != nil {
		return err
	}
	err = until(ctx, patience, func() error {
		if err := b.running(); err != nil {
			return &lost{err}
		}
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.health+"/readyz", nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(q)
		if err != nil {
			return err
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("the bridge is not ready: %s", answer.Status)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, b.out)
	}
	return nil
}

// letters are the dead letters that the program has caused.
func (b *bridge) letters(ctx context.Context, thing string) (string, error) {
	out, err := exec.CommandContext(ctx, b.binary, "dead", "ls", "--config", b.config(), "--thing", thing, "--direction", "up", "--json").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("fleetbridge dead ls: %w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

func (b *bridge) close() {
	if b != nil {
		b.kill()
		_ = os.RemoveAll(b.dir)
	}
}

// environment is what the program is told.
func (r *run) environment() []string {
	env := []string{"THING=" + r.Thing}
	if r.nats == "" {
		return append(env, "MQTT_URL="+r.link.URL(), "MQTT_CLIENT_ID="+r.Thing,
			"FLEETS_URL="+r.sim.HTTPURL(), "FLEETS_API_KEY="+apiKey, "FLEETS_API_SECRET="+apiSecret)
	}
	env = append(env, "NATS_URL=nats://"+r.nats)
	if r.Login {
		env = append(env, "NATS_USER="+user, "NATS_PASSWORD="+password, "NATS_INBOX_PREFIX=_INBOX_"+user)
	}
	return env
}

// openLink puts a link that can be cut between the program and what it connects to; in front of a bridge of our own
// there is none, because the bridge itself can be killed.
func (r *run) openLink() (err error) {
	switch {
	case r.bridge != nil:
		r.nats = r.bridge.nats
	case r.NATS != "":
		if r.link, err = fleetsim.NewLink(r.NATS); err == nil {
			r.nats = r.link.Addr()
		}
	default:
		r.link, err = fleetsim.ListenLink(r.Listen, r.sim.BrokerURL())
	}
	return err
}

// cut takes away what the program is connected to, until restore.
func (r *run) cut() {
	if r.bridge != nil {
		r.bridge.kill()
		return
	}
	r.link.Cut()
}

func (r *run) restore(ctx context.Context) error {
	if r.bridge != nil {
		return r.bridge.start(ctx, r.Patience)
	}
	r.link.Restore()
	return nil
}
