//go:build unix

package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/fleetsim"
)

// Recognisable secrets, one for each place that a configuration has for one.
const (
	thingPassword = "Zq1-thing-password"
	filePassword  = "Zq2-file-password"
	apiKey        = "Zq3-api-key"
	apiSecret     = "Zq4-api-secret"
	userPassword  = "Zq5-user-password"
	userFile      = "Zq6-user-file"
	natsLogin     = "Zq7-nats-login"
	misplaced     = "Zq8-misplaced"
	consoleUser   = "Zq9-console-user"
)

var secrets = []string{thingPassword, filePassword, apiKey, apiSecret, userPassword, userFile, natsLogin, misplaced, consoleUser, "PRIVATE KEY"}

// leaks looks for secrets, in clear and as HTTP and others spell them.
func leaks(t *testing.T, where, text string) {
	t.Helper()
	spellings := append([]string{}, secrets...)
	for _, s := range secrets {
		spellings = append(spellings, fmt.Sprintf("%x", s), base64.StdEncoding.EncodeToString([]byte(s)))
	}
	spellings = append(spellings, base64.StdEncoding.EncodeToString([]byte(apiKey+":"+apiSecret)))
	for line := range strings.Lines(text) {
		for _, s := range spellings {
			if strings.Contains(line, s) {
				t.Errorf("%s shows a secret: %s", where, line)
			}
		}
	}
}

// keyPair writes a self-signed pair, adds its key's text to the secrets that are looked for, and returns it.
func keyPair(t *testing.T, cert, key string) tls.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().AddDate(1, 0, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs})
	secrets = append(secrets, strings.Split(string(text), "\n")[1])
	for path, data := range map[string][]byte{cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key: text} {
		put(t, path, string(data))
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tail is what a failed test shows of the output.
func (w *watched) tail() string {
	return fleetsim.Tail(slices.DeleteFunc(strings.Split(w.String(), "\n"), func(line string) bool { return strings.Contains(line, "level=DEBUG") }))
}

// waitFor waits until the output holds a text.
func (w *watched) waitFor(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(w.String(), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not logged: %q; %s", text, w.tail())
		}
	}
}

// No secret leaves the bridge: not in the log at debug level, not when logins fail or a new configuration is
// refused, not on its pages and in its buckets, and not with any command that reads the configuration.
func TestNoSecretIsShown(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	keyPair(t, at("pair.pem"), at("pair.key"))
	put(t, at("password"), filePassword+"\n")
	put(t, at("user"), userFile+"\n")
	t.Setenv("FLEETS_SECRET", apiSecret)
	sim := fleetsim.Start(t, fleetsim.Options{Things: []string{"pump-07", "valve-3"}, APIKey: "other", APISecret: "other",
		Embedded: fleetsim.BrokerOptions{Logins: []fleetsim.Login{{ClientID: "pump-07", Username: "pump", Password: thingPassword}}}})
	config := func(more string) string {
		return `
mqtt: {server: "` + sim.BrokerURL() + `"}
fleets: {url: "` + sim.HTTPURL() + `", api_key: ` + apiKey + `, api_secret: "${FLEETS_SECRET}"}
things:
  - {name: pump-07, username: pump, password: ` + thingPassword + `}
  - {name: valve-3, username: valve, password_file: password, tls: {cert_file: pair.pem, key_file: pair.key}}
nats: {embedded: {listen: "127.0.0.1:0", store_dir: data, tls: {cert_file: pair.pem, key_file: pair.key, ca_file: pair.pem}}}
local:
  users:
    - {name: hvac, password: ` + userPassword + `}
    - {name: meter, password_file: user}
http: {listen: "127.0.0.1:0"}
console: {listen: "127.0.0.1:0", users: [{name: alice, password: ` + consoleUser + `}]}
log: {level: debug}
` + more
	}
	file := at("gw.yaml")
	put(t, file, config(""))

	ctx, cancel := context.WithCancel(t.Context())
	errs, ended := &watched{}, make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"run", "--config", file}, streams{strings.NewReader(""), &bytes.Buffer{}, errs})
	}()
	defer func() { cancel(); <-ended }()
	errs.waitFor(t, "programs can connect")
	errs.waitFor(t, "0x86")               // the password of one Thing is wrong
	errs.waitFor(t, "shadow not fetched") // and so is the API's
	address := regexp.MustCompile(`programs can connect" nats=(\S+) http=(\S+)`).FindStringSubmatch(errs.String())
	if nc, err := nats.Connect(address[1], nats.UserInfo("hvac", natsLogin), nats.RootCAs(at("pair.pem")), nats.ClientCert(at("pair.pem"), at("pair.key"))); err == nil {
		nc.Close()
		t.Error("a wrong password lets in")
	}
	for _, page := range []string{"/readyz", "/healthz", "/metrics"} {
		leaks(t, page, fetch(t, "http://"+address[2]+page))
	}
	ask := loggedIn(t, strings.TrimSpace(invoke(t, []string{"console", "--operator", "--config", file}, "")))
	for _, path := range []string{"", "overview", "config", "events", "things", "things/pump-07", "history", "routes"} {
		leaks(t, "console, "+path, ask(path))
	}
	if text := ask("config"); !strings.Contains(text, "[redacted]") || !strings.Contains(text, "pump-07") {
		t.Errorf("the console's configuration: %s", text)
	}

	refused := 0
	for _, broken := range []string{
		config("passwords: [" + misplaced + "]\n"),
		config("mqtt: {password: " + misplaced + "}\n"),
		strings.Replace(config(""), "valve-3, username", "valve-3, pasword: "+misplaced+", username", 1),
		strings.Replace(config(""), `"`+sim.BrokerURL(), `"mqtt://pump:`+misplaced+"@127.0.0.1", 1),
		strings.Replace(config(""), `"`+sim.HTTPURL(), `"https://key:`+misplaced+"@127.0.0.1", 1),
		strings.Replace(config(""), userPassword, "["+misplaced+"]", 1),
		strings.Replace(config(""), userPassword, userPassword+", nkey: SU"+misplaced, 1),
		strings.Replace(config(""), "password_file: password", "password_file: pair.pem, password: "+misplaced, 1),
		strings.Replace(config(""), "nats: {", `nats: {url: "nats://u:`+natsLogin+`@:99999",`, 1),
		config("\t" + misplaced + ": ["),
	} {
		put(t, file, broken)
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		refused++
		for deadline := time.Now().Add(patience); strings.Count(errs.String(), "new configuration is refused") < refused; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not refused: %s\n%s", broken, errs.tail())
			}
		}
		for _, args := range [][]string{{"check", "--config", file}, {"dead", "ls", "--config", file}} {
			leaks(t, strings.Join(args[:1], " "), invoke(t, args, ""))
		}
	}
	put(t, file, config(""))
	for _, args := range [][]string{{"check", "--config", file}, {"explain"}, {"explain", "--json"}, {"dead", "ls", "--config", file}, {"dead", "ls", "--nats", "nats://u:" + natsLogin + "@127.0.0.1:1"}} {
		leaks(t, args[0], invoke(t, args, ""))
	}
	archive := at("bundle.zip")
	if got := invoke(t, []string{"bundle", archive, "--config", file}, ""); !strings.Contains(got, "is written: 10 parts, 3 of them errors") { // the pages: http.listen has port 0
		t.Errorf("bundle: %s", got)
	}
	parts := unzip(t, archive)
	for name, text := range parts {
		leaks(t, "bundle, "+name, text)
	}
	for name, want := range map[string]string{
		"log.txt": "programs can connect", "goroutines.txt": "gateway.(*Gateway).Run", "configuration.yaml": "name: pump-07", "doctor.json": `"findings"`,
		"store.txt": "jetstream", "version.json": `"cpus"`, "readyz.json": "not to be had: bundle: no bridge answers at",
	} {
		if !strings.Contains(parts[name], want) {
			t.Errorf("bundle, %s: no %q in\n%s", name, want, parts[name])
		}
	}
	if got := invoke(t, []string{"bundle", archive, "--config", file}, ""); !strings.Contains(got, "is there already") {
		t.Errorf("bundle, again: %s", got)
	}
	if info, err := os.Stat(archive); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	cancel()
	if code := <-ended; code != done {
		t.Errorf("exit code %d", code)
	}
	ended <- done
	leaks(t, "the log", errs.String())
}

func unzip(t *testing.T, path string) map[string]string {
	t.Helper()
	r, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := map[string]string{}
	for _, f := range r.File {
		part, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name] = string(text)
	}
	return out
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || len(body) == 0 {
		t.Fatalf("%s: %v", url, err)
	}
	return string(body)
}
