// Package console tests the console's page in a browser: the built bridge, the simulated cloud, and Chromium.
package console

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/nats-io/nats.go"

	"fleetbridge/fleetsim"
)

// patience bounds every wait: a busy machine needs some of it.
const patience = 2 * time.Minute

// hostile is the name of a Thing that would like to be markup, and turns the line around.
const hostile = "<img src=x onerror=alert(1)>\u202e 1"

// password is alice's, who is an operator.
const password = "correct horse"

var (
	shots = flag.String("shots", "", "with -run TestShots: the directory for the pictures of the documents")
	shown *site           // the one that most tests share
	tabs  context.Context // of the one browser
)

// site is the cloud, a link that can break, and a bridge that runs as a process of its own.
type site struct {
	sim    *fleetsim.Sim
	link   *fleetsim.Link
	dir    string
	config string
	run    *exec.Cmd
	nc     *nats.Conn
	server string // of NATS
	log    *os.File
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fleetbridge-console.")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := browser(ctx, dir); err != nil {
		return failed(err)
	}
	defer func() { _ = chromedp.Cancel(tabs) }()
	if shown, err = newSite(ctx, dir); err != nil {
		return failed(err)
	}
	defer shown.close()
	code := m.Run()
	if code != 0 {
		shown.tellLog()
	}
	return code
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "console:", err)
	return 1
}

// browser starts the one that all tests share.
func browser(ctx context.Context, dir string) error {
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.UserDataDir(filepath.Join(dir, "browser")), chromedp.WindowSize(1280, 800), chromedp.Flag("lang", "en-GB"))
	if path := os.Getenv("CHROMIUM"); path != "" {
		options = append(options, chromedp.ExecPath(path))
	}
	allocator, _ := chromedp.NewExecAllocator(ctx, options...)
	tabs, _ = chromedp.NewContext(allocator)
	if err := chromedp.Do(tabs); err != nil {
		return fmt.Errorf("Chromium does not start (Debian: apt-get install chromium; or name it in CHROMIUM): %w", err)
	}
	return nil
}

// thing is the name of one of the many.
func thing(n int) string { return fmt.Sprintf("pump-%03d", n) }

const many = 230

func names() (out []string) {
	if *shots != "" {
		return []string{"boiler-1", "boiler-2", "fan-03", "fan-04", "pump-07", "pump-08", "thermostat", "valve-12"}
	}
	for n := range many {
		out = append(out, thing(n))
	}
	return append(out, "thermostat", hostile)
}

func newSite(ctx context.Context, dir string) (*site, error) {
	s := &site{dir: dir, config: filepath.Join(dir, "fleetbridge.yaml")}
	var err error
	if s.sim, err = fleetsim.New(fleetsim.Options{Things: names()}); err != nil {
		return nil, err
	}
	go func() { _ = s.sim.Run(ctx) }()
	if s.link, err = fleetsim.NewLink(s.sim.BrokerURL()); err != nil {
		return nil, err
	}
	s.server = freePort()
	var text strings.Builder
	ca := filepath.Join(dir, "ca.pem")
	expires := time.Now().Add(300 * time.Hour)
	if *shots != "" {
		expires = expires.AddDate(1, 0, 0)
	}
	if err := certificate(ca, expires); err != nil {
		return nil, err
	}
	fmt.Fprintf(&text, "mqtt: {server: %q}\nfleets: {url: %q, api_key: key, api_secret: secret, tls: {ca_file: %q}}\n", s.link.URL(), s.sim.HTTPURL(), ca)
	fmt.Fprintf(&text, "nats: {embedded: {listen: %q, store_dir: %q}}\nhttp: {listen: %q}\nconsole: {listen: %q, actions: [replay, discard, doctor, send], users: [{name: alice, password: %q, role: operator}]}\nthings:\n",
		s.server, filepath.Join(dir, "store"), freePort(), freePort(), password)
	for _, name := range names() {
		fmt.Fprintf(&text, "  - {name: %q, client_id: %q}\n", name, name)
	}
	if err := os.WriteFile(s.config, []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	return s, s.start(ctx)
}

// certificate writes one that expires then.
func certificate(path string, expires time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: expires, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
}

// freePort is an address that nobody listened on just now.
func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func bridge(args ...string) *exec.Cmd {
	c := exec.Command(os.Getenv("FLEETBRIDGE"), args...)
	c.Env = append(os.Environ(), "NO_COLOR=1")
	return c
}

// start runs the bridge and returns when it is ready.
func (s *site) start(ctx context.Context) error {
	s.run = bridge("run", "--config", s.config)
	s.run.Stdout, s.run.Stderr = s.log, s.log
	if err := s.run.Start(); err != nil {
		return fmt.Errorf("FLEETBRIDGE=%s: %w", os.Getenv("FLEETBRIDGE"), err)
	}
	if err := until(ctx, func() error {
		if out, err := bridge("healthcheck", "--ready", "--config", s.config).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}); err != nil {
		s.tellLog()
		return fmt.Errorf("the bridge is not ready: %w", err)
	}
	return nil
}

// stop ends the bridge as a supervisor would.
func (s *site) stop() error {
	if s.run == nil {
		return nil
	}
	_ = s.run.Process.Signal(syscall.SIGTERM)
	err := s.run.Wait()
	s.run = nil
	return err
}

func (s *site) close() {
	if s.nc != nil {
		s.nc.Close()
	}
	_ = s.stop()
	_ = s.link.Close()
	_ = s.sim.Close()
}

func (s *site) tellLog() {
	b, _ := os.ReadFile(s.log.Name())
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, "level=INFO") {
			fmt.Fprint(os.Stderr, "the bridge says: ", line)
		}
	}
}

// until tries again until it works, or says why it never did.
func until(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-tick.C:
		}
	}
}

// url is where the page is.
func (s *site) url(t *testing.T) string {
	t.Helper()
	at, _, _ := strings.Cut(s.login(t, false), "#")
	return at
}

// login makes a link for a role.
func (s *site) login(t *testing.T, operator bool) string {
	t.Helper()
	args := []string{"console", "--config", s.config}
	if operator {
		args = append(args, "--operator")
	}
	out, err := bridge(args...).Output()
	if err != nil {
		t.Fatalf("fleetbridge console: %v: %s", err, out)
	}
	for _, word := range strings.Fields(string(out)) {
		if strings.Contains(word, "/#login=") {
			return word
		}
	}
	t.Fatalf("fleetbridge console printed no link: %s", out)
	return ""
}
