package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

const aclConfig = `mqtt: {server: "mqtt://127.0.0.1:1883"}
things: [{name: pump-07}, {name: com.acme.pump 7}]
nats: {url: "nats://bridge:clear-of-bridge@127.0.0.1:4222"}
local:
  users:
    - {name: hvac, password: clear-of-hvac, things: [com.acme.pump 7], allow: [events, read]}
    - {name: light, nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4}
    - {name: meter, password: "$2a$04$j/5A4v3QyS8i1aLPtb0uKuwSEDJ.cPMOSaUQvYRNL53Ji2OfiI9f2"}
`

func aclOf(t *testing.T, config string, args ...string) (out, errs string, code int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bridge.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), append([]string{"acl", "--config", path}, args...), streams{strings.NewReader(""), &stdout, &stderr})
	return stdout.String(), stderr.String(), code
}

func TestACL(t *testing.T) {
	t.Parallel()
	out, errs, code := aclOf(t, aclConfig)
	if code != done || errs != "" {
		t.Fatalf("%d %s", code, errs)
	}
	if strings.Contains(out, "clear-of") {
		t.Errorf("a password in clear:\n%s", out)
	}
	for _, part := range []string{
		`"program-hvac"`, `"fleets.up.com=2Eacme=2Epump=207.events.>"`, `nkey: "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"`,
		`password: "$2a$04$j/5A4v3QyS8i1aLPtb0uKuwSEDJ.cPMOSaUQvYRNL53Ji2OfiI9f2"`, `user: "bridge"`,
	} {
		if !strings.Contains(out, part) {
			t.Errorf("no %s in\n%s", part, out)
		}
	}
	path := filepath.Join(t.TempDir(), "server.conf")
	if err := os.WriteFile(path, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(opts.Accounts) != 4 || len(opts.Users) != 3 || len(opts.Nkeys) != 1 {
		t.Errorf("%d accounts, %d users, %d nkeys", len(opts.Accounts), len(opts.Users), len(opts.Nkeys))
	}
}

func TestACLWithoutALogin(t *testing.T) {
	t.Parallel()
	const config = `mqtt: {server: "mqtt://127.0.0.1:1883"}
things: [{name: pump-07}]
nats: {url: "nats://127.0.0.1:4222"}
`
	out, _, code := aclOf(t, config)
	if code != done || !strings.Contains(out, `{user: "fleetbridge", password: $FLEETBRIDGE_PASSWORD}`) {
		t.Errorf("%d %s", code, out)
	}
}

func TestACLErrors(t *testing.T) {
	for change, want := range map[string]string{
		"nats://token@127.0.0.1:4222": "nats.url: has a token instead of a user",
		"nats://hvac:x@127.0.0.1":     "user hvac: is the bridge's own login in nats.url",
	} {
		_, errs, code := aclOf(t, strings.Replace(aclConfig, "nats://bridge:clear-of-bridge@127.0.0.1:4222", change, 1))
		if code != failed || !strings.Contains(errs, want) {
			t.Errorf("%d %s, want %s", code, errs, want)
		}
	}
}
