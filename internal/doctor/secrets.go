package doctor

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"

	"fleetbridge/bridge/local/storedir"
	"fleetbridge/internal/plainfile"
)

// secrets looks at who may read the files that hold secrets. A group may: that is how services are often
// given them.
func (d *Doctor) secrets() {
	if runtime.GOOS == "windows" {
		d.skip(checkSecrets, "", "the rights of files are not looked at on Windows")
		return
	}
	files, wrong := d.secretFiles(), 0
	if d.embedded() {
		if err := storedir.Check(d.cfg.NATS.Embedded.StoreDir); err != nil {
			wrong++
			d.add(Finding{Fail, checkSecrets, d.cfg.NATS.Embedded.StoreDir, err.Error(), "do so before the next start, which is refused"})
		}
	}
	for _, f := range files {
		info, err := os.Stat(f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && f.optional:
		case err != nil:
			wrong++
			d.add(Finding{Fail, checkSecrets, f.path, err.Error(), f.key + " names it: make it readable"})
		case plainfile.Others(f.path, info) != 0:
			wrong++
			mode := "600"
			if info.IsDir() {
				mode = "700"
			}
			d.add(Finding{Warn, checkSecrets, f.path, "every user of this machine may use it (mode " + info.Mode().Perm().String() + ")", "chmod " + mode + " " + f.path})
		}
	}
	for _, e := range d.cfg.Exposed {
		if !slices.ContainsFunc(files, func(f secretFile) bool { return f.path == e.Path }) { // a file of the configuration
			wrong++
			d.add(Finding{Warn, checkSecrets, e.Path, e.Detail, e.Mend})
		}
	}
	if wrong == 0 {
		d.ok(checkSecrets, "", "%d files and directories, closed to other users", len(files))
	}
}

type secretFile struct {
	key, path string
	optional  bool
}

func (d *Doctor) secretFiles() []secretFile {
	c := d.cfg
	all := []secretFile{
		{key: "mqtt.tls.key_file", path: c.MQTT.TLS.KeyFile},
		{key: "fleets.api_secret_file", path: c.Fleets.APISecretFile},
		{key: "fleets.tls.key_file", path: c.Fleets.TLS.KeyFile},
		{key: "nats.creds_file", path: c.NATS.CredsFile},
		{key: "nats.tls.key_file", path: c.NATS.TLS.KeyFile},
	}
	for _, t := range c.Things {
		all = append(all, secretFile{key: "things[].password_file", path: t.PasswordFile}, secretFile{key: "things[].tls.key_file", path: t.TLS.KeyFile})
	}
	for _, u := range c.Local.Users {
		all = append(all, secretFile{key: "local.users[].password_file", path: u.PasswordFile})
	}
	if d.embedded() {
		all = append(all, secretFile{key: "nats.embedded.tls.key_file", path: c.NATS.Embedded.TLS.KeyFile},
			secretFile{"nats.embedded.store_dir", c.NATS.Embedded.StoreDir, true})
	}
	seen, out := map[string]bool{"": true}, all[:0]
	for _, f := range all {
		if !seen[f.path] {
			seen[f.path] = true
			out = append(out, f)
		}
	}
	return out
}
