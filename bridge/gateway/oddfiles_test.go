//go:build unix

package gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fleetbridge/internal/race"
)

// loadInTime is Load that fails the test where a bridge would hang.
func loadInTime(t *testing.T, path string) (*Config, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, _, err := loadUntil(ctx, path, environment, Edit{})
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%s: still not loaded", path)
	}
	return c, err
}

// Whatever stands in the place of a file that the configuration names, or of itself, the answer comes at once
// and names the key. Nobody writes into the pipe; the large file takes no room.
func TestOddFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(syscall.Mkfifo(at("pipe"), 0o600), os.Symlink("pipe", at("to-pipe")), os.Symlink("/dev/zero", at("zero")),
		os.WriteFile(at("giant"), nil, 0o600), os.Truncate(at("giant"), 1<<42), os.Mkdir(at("folder"), 0o700)); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{"pipe": "is a pipe", "to-pipe": "is a pipe", "zero": "is a device", "giant": "has more than", "folder": "is a directory"}
	keys := map[string]string{
		"things[0].password_file":      "things: [{name: a, password_file: %s}]",
		"things[0].tls.key_file":       "things: [{name: a, tls: {cert_file: cert, key_file: %s}}]",
		"mqtt.tls.ca_file":             "mqtt: {server: 'mqtts://h', tls: {ca_file: %s}}\nthings: [{name: a}]",
		"mqtt.tls.cert_file":           "mqtt: {server: 'mqtts://h', tls: {cert_file: %s, key_file: cert}}\nthings: [{name: a}]",
		"fleets.api_secret_file":       "fleets: {url: 'https://h', api_key: k, api_secret_file: %s}\nthings: [{name: a}]",
		"local.users[0].password_file": "things: [{name: a}]\nlocal: {users: [{name: u, password_file: %s}]}",
		"nats.creds_file":              "things: [{name: a}]\nnats: {url: 'nats://h', creds_file: %s}",
		"nats.embedded.tls.ca_file":    "things: [{name: a}]\nnats: {embedded: {tls: {ca_file: %s}}}",
	}
	write(t, at("cert"), []byte("x"))
	for key, text := range keys {
		for name, want := range kinds {
			text := fmt.Sprintf(text, name)
			if !strings.HasPrefix(text, "mqtt:") {
				text = "mqtt: {server: 'mqtts://h'}\n" + text
			}
			write(t, at("gw.yaml"), []byte(text+"\n"))
			_, err := loadInTime(t, at("gw.yaml"))
			if err == nil || !strings.Contains(err.Error(), key+": "+at(name)+" "+want) {
				t.Errorf("%s: %s: got %v", key, name, err)
			}
		}
	}
	for name, want := range kinds {
		if _, err := loadInTime(t, at(name)); err == nil || !strings.HasPrefix(err.Error(), at(name)+": "+want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// The same in a folder of schemas and in things_dir, and for the folders themselves.
func TestOddFilesInFolders(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"device": func(path string) error { return os.Symlink("/dev/zero", path) },
		"giant":  func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)) },
	} {
		for _, c := range []struct{ key, file string }{
			{"things[0].schema_dir", "folder/reported.schema.json"},
			{"things[0].schema_dir", "folder/events/x.schema.json"},
			{"things[0].schema_dir", "folder/shared/x.JSON"},
			{"things[0].schema_dir", "folder"},
			{"things[0].thing_type", "type.json"},
			{"things_dir", "things.d"},
			{"", "things.d/x.yaml"},
		} {
			dir := t.TempDir()
			path := filepath.Join(dir, c.file)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), make(path)); err != nil {
				t.Fatal(err)
			}
			text := "mqtt: {server: 'mqtts://h'}\nthings: [{name: a, schema_dir: folder}]\n"
			if c.file == "type.json" {
				text = "mqtt: {server: 'mqtts://h'}\nthings: [{name: a, thing_type: type.json}]\n"
			}
			if strings.HasPrefix(c.file, "things.d") {
				text = "mqtt: {server: 'mqtts://h'}\nthings: [{name: a}]\nthings_dir: things.d\n"
			}
			write(t, filepath.Join(dir, "gw.yaml"), []byte(text))
			_, err := loadInTime(t, filepath.Join(dir, "gw.yaml"))
			if err == nil || !strings.Contains(err.Error(), c.key) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s as %s: got %v", name, c.file, err)
			}
		}
	}
}

// Large files, made of what costs parsers and us the most.
func TestCostlyFiles(t *testing.T) {
	size := race.Part(maxFileBytes / 8)
	fill := func(text string) string { return strings.Repeat(text, size/len(text)) }
	half := func(text string) string { return strings.Repeat(text, size/2/len(text)) }
	some := func(text string) string { return strings.Repeat(text, race.Part(size/2)/len(text)) } // for what grows with the square
	const fine = "mqtt: {server: 'mqtts://h'}\n"
	for name, text := range map[string]string{
		"one line of mappings":     fill(" b: c"),
		"dashes":                   fill("- "),
		"question marks":           fill("? "),
		"colons":                   fill(": "),
		"brackets":                 fill("["),
		"braces":                   fill("{a: "),
		"equal keys":               fill("b: c\n"),
		"unknown keys":             "mqtt:\n" + fill("  bb: c\n"),
		"anchors":                  fill("&a "),
		"aliases":                  "a: &a x\nb: [" + fill("*a,") + "]\n",
		"comments":                 fill("a: b # c\n"),
		"documents":                fill("---\n"),
		"carriage returns":         fill("a: b\r"),
		"long words":               fill("a"),
		"things without a name":    fine + "things:\n" + fill("- {}\n"),
		"things of one name":       fine + "things:\n" + fill("- {name: a}\n"),
		"users of unknown things":  fine + "things: [{name: a}]\nlocal: {users: [" + half("{name: u, things: [xy]},") + "]}\n",
		"users that have no login": fine + "things:\n" + half("- {name: abcdefgh}\n") + "local:\n  users:\n" + half("  - {name: u, things: abcdefgx}\n"),
		"a list in each of a list": fine + "mqtts: &l [" + some("x,") + "]\nthings: [{name: a}]\nlocal: {users: [&u {name: u, password: p, things: *l}," + some("*u,") + "]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "gw.yaml")
			write(t, path, []byte(text))
			_, err := loadInTime(t, path)
			problems, ok := err.(Problems)
			if !ok || len(problems) > maxProblems+1 {
				t.Errorf("got %d problems, %T", len(problems), err)
			}
		})
	}
}

// What others can read is warned of, where they can get at it.
func TestExposed(t *testing.T) {
	inTestdata(t)
	const plain = "mqtt: {server: 'mqtts://h'}\nthings: [{name: a, password: hunter2}]\n"
	const named = "mqtt: {server: 'mqtts://h'}\nthings: [{name: a, password_file: files/secret, tls: {cert_file: files/cert.pem, key_file: files/cert.key}}]\n"
	for _, c := range []struct {
		name, text         string
		file, secret, keys os.FileMode
		want               string // "path of the key: file", for each
	}{
		{"closed", plain, 0o600, 0o600, 0o600, ""},
		{"of the group", plain, 0o640, 0o640, 0o640, ""},
		{"a password in an open file", plain, 0o644, 0o600, 0o600, "things[0].password: f.yaml"},
		{"that others can write", plain, 0o602, 0o600, 0o600, "things[0].password: f.yaml"},
		{"from the environment", "mqtt: {server: 'mqtts://h'}\nthings: [{name: a, password: '${PUMP_PASSWORD}'}]\n", 0o644, 0o600, 0o600, ""},
		{"nothing secret", "mqtt: {server: 'mqtts://h'}\nthings: [{name: a}]\nnats: {url: 'nats://h'}\n", 0o644, 0o600, 0o600, ""},
		{"a login in a URL", "mqtt: {server: 'mqtts://h'}\nthings: [{name: a}]\nnats: {url: 'nats://u:hunter2@h'}\n", 0o644, 0o600, 0o600, "nats.url: f.yaml"},
		{"secret and key", named, 0o644, 0o644, 0o604, "things[0].password_file: files/secret, things[0].tls.key_file: files/cert.key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, "f.yaml", []byte(c.text))
			write(t, "files/secret", []byte("hunter2"))
			if err := errors.Join(os.Chmod("f.yaml", c.file), os.Chmod("files/secret", c.secret), os.Chmod("files/cert.key", c.keys)); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range load(t, "f.yaml").Exposed {
				got = append(got, e.At.Path+": "+e.Path)
				if strings.Contains(e.String(), "hunter2") || !strings.Contains(e.String(), "chmod") || !strings.HasPrefix(e.String(), "f.yaml:") {
					t.Errorf("got %s", e)
				}
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
