//go:build !windows

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"fleetbridge/bridge/console"
	"fleetbridge/bridge/gateway"
)

// loggedIn follows a link, and returns what asks the console's API as whoever has it.
func loggedIn(t *testing.T, link string) func(path string) string {
	t.Helper()
	url, code, found := strings.Cut(link, "/#login=")
	if !found {
		t.Fatalf("%q is no link", link)
	}
	do := func(method, path, token string, body io.Reader) string {
		t.Helper()
		q, err := http.NewRequestWithContext(t.Context(), method, url+"/api/v1/"+path, body)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s %v", path, answer.StatusCode, text, err)
		}
		return string(text)
	}
	var in struct{ Token string }
	if err := json.Unmarshal([]byte(do("POST", "session", "", bytes.NewReader([]byte(`{"link":"`+code+`"}`)))), &in); err != nil {
		t.Fatal(err)
	}
	return func(path string) string { return do("GET", path, in.Token, nil) }
}

// The bridge's own user gets links for a role, as often as he asks, and ends logins; and hears why there is none.
func TestConsole(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "gw.yaml")
	put(t, file, "mqtt: {server: \"mqtt://127.0.0.1:1\"}\nthings: [{name: pump-07}]\nnats: {embedded: {listen: \"127.0.0.1:0\", store_dir: data}}\nhttp: {listen: \"\"}\nconsole: {listen: \"127.0.0.1:0\"}\n")
	ask := func(more ...string) string {
		t.Helper()
		return strings.TrimSpace(invoke(t, append([]string{"console", "--config", file}, more...), ""))
	}
	if got := ask(); !strings.Contains(got, "is it running, on this machine") || !strings.HasSuffix(got, "[1]") {
		t.Errorf("without a bridge: %s", got)
	}
	stop := runsWith(t, file, console.New)
	viewer, operator := loggedIn(t, ask()), loggedIn(t, ask("--operator"))
	if got := viewer(""); !strings.Contains(got, `"role":"viewer","actions":[]`) {
		t.Errorf("a viewer: %s", got)
	}
	if got := operator(""); !strings.Contains(got, `"role":"operator","actions":["replay","discard","doctor"]`) {
		t.Errorf("an operator: %s", got)
	}
	first := ask()
	last := loggedIn(t, ask("--revoke"))
	if got := last("overview"); !strings.Contains(got, `"ready":false`) {
		t.Errorf("after all logins have ended: %s", got)
	}
	answer, err := http.Post(strings.Split(first, "#")[0]+"api/v1/session", "application/json", strings.NewReader(`{"link":"`+strings.Split(first, "=")[1]+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("a link that was made before all logins ended: %d", answer.StatusCode)
	}
	stop()
	put(t, file, "mqtt: {server: \"mqtt://127.0.0.1:1\"}\nthings: [{name: pump-07}]\nnats: {embedded: {listen: \"127.0.0.1:0\", store_dir: data}}\nhttp: {listen: \"\"}\nconsole: {listen: \"\"}\n")
	runsWith(t, file, console.New)
	if got := ask(); !strings.Contains(got, "console.listen is empty") || !strings.HasSuffix(got, "[1]") {
		t.Errorf("without a console: %s", got)
	}
}

// runsWith is runs with a console, until stop.
func runsWith(t *testing.T, file string, page func(*gateway.Gateway) gateway.Page) (stop func()) {
	t.Helper()
	_, _, stop = runsAs(t, file, func(g *gateway.Gateway) { g.Console = page })
	return stop
}
