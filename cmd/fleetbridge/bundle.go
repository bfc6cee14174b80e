package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/sightings"
	"fleetbridge/internal/doctor"
)

func newBundle(s streams) *cobra.Command {
	var config string
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "bundle FILE",
		Short: "Collect what support asks for in one archive, without secrets",
		Long: "Collect in one ZIP archive what support asks for: version, configuration without its secrets, the findings of\n" +
			"doctor, status, metrics, last log lines and goroutines of a running bridge, and the sizes of the files in its\n" +
			"store. There are no payloads in it. If a part can't be had, the error is in its place. Nothing is changed, and a\n" +
			"running bridge keeps its sessions.",
		Example: "  fleetbridge bundle gateway-17.zip",
		Args:    between(1, 1, "FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := loadConfig(c, &config)
			if err != nil {
				return err
			}
			f, err := createNew(args[0], 0o600, "name another file")
			if err != nil {
				return fmt.Errorf("bundle: %w", err)
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			b := &bundle{zip: zip.NewWriter(f), cfg: cfg, at: time.Now()}
			err = errors.Join(b.collect(ctx), b.zip.Close(), f.Sync(), f.Close())
			if err != nil {
				return fmt.Errorf("bundle: %w", errors.Join(err, os.Remove(args[0])))
			}
			_, err = fmt.Fprintf(s.out, "%s is written: %d parts, %d of them errors; look through it before you give it away\n", args[0], b.parts, b.failed)
			return err
		},
	}
	configFlag(c, &config)
	c.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "how long all of it may take")
	return c
}

// bundle is an archive while it is written.
type bundle struct {
	zip           *zip.Writer
	cfg           *gateway.Config
	at            time.Time
	parts, failed int
}

// collect writes every part. Its errors are the archive's own.
func (b *bundle) collect(ctx context.Context) error {
	web := &pages{timeout: 10 * time.Second, command: "bundle"}
	if b.cfg.HTTP.Listen != "" {
		web.base = b.cfg.HTTP.URL()
	}
	parts := []struct {
		name string
		make func(context.Context) ([]byte, error)
	}{
		{"version.json", b.version},
		{"configuration.yaml", func(context.Context) ([]byte, error) { return yaml.Marshal(b.cfg) }},
		{"warnings.txt", b.warnings},
		{"readyz.json", b.page(web, "/readyz")},
		{"healthz.txt", b.page(web, "/healthz")},
		{"metrics.txt", b.page(web, "/metrics")},
		{"log.txt", b.asked("/log")},
		{"goroutines.txt", b.asked("/goroutines")},
		{"store.txt", b.store},
		{"doctor.json", b.doctor},
	}
	for _, p := range parts {
		text, err := p.make(ctx)
		if err != nil {
			b.failed++
			text = []byte("not to be had: " + err.Error() + "\n")
		}
		b.parts++
		to, err := b.zip.CreateHeader(&zip.FileHeader{Name: p.name, Method: zip.Deflate, Modified: b.at})
		if err != nil {
			return err
		}
		if _, err := to.Write(text); err != nil {
			return err
		}
	}
	return nil
}

func (b *bundle) version(context.Context) ([]byte, error) {
	host, _ := os.Hostname()
	return json.MarshalIndent(map[string]any{
		"bundle": gateway.ReadBuild(version, commit), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
		"cpus": runtime.NumCPU(), "host": host, "at": b.at.UTC().Format(time.RFC3339),
	}, "", "  ")
}

func (b *bundle) warnings(context.Context) ([]byte, error) {
	var out bytes.Buffer
	for _, w := range b.cfg.Warnings {
		fmt.Fprintln(&out, w)
	}
	for _, e := range b.cfg.Exposed {
		fmt.Fprintln(&out, e)
	}
	return out.Bytes(), nil
}

// page is one of those at http.listen, with whatever status.
func (b *bundle) page(web *pages, path string) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		if web.base == "" {
			return nil, errors.New("http.listen is empty, so nobody can be asked")
		}
		_, body, err := web.get(ctx, path)
		return body, err
	}
}

// asked is what the running bridge says over the socket in its store directory.
func (b *bundle) asked(path string) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		return sightings.Ask(ctx, b.cfg.NATS.Embedded.StoreDir, path)
	}
}

// store lists the files of the store with their sizes and times.
func (b *bundle) store(context.Context) ([]byte, error) {
	const most = 10_000
	var out bytes.Buffer
	dir, n := b.cfg.NATS.Embedded.StoreDir, 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if n++; n > most {
			fmt.Fprintf(&out, "and more than these %d\n", most)
			return fs.SkipAll
		}
		name, _ := filepath.Rel(dir, path)
		info, infoErr := fs.FileInfo(nil), err
		if err == nil {
			info, infoErr = e.Info()
		}
		if infoErr != nil {
			fmt.Fprintf(&out, "%s: %v\n", name, infoErr)
			return nil
		}
		fmt.Fprintf(&out, "%s %12d %s %s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format(time.RFC3339), name)
		return nil
	})
	return out.Bytes(), err
}

func (b *bundle) doctor(ctx context.Context) ([]byte, error) {
	findings := []doctor.Finding{}
	d, err := doctor.New(b.cfg, doctor.Options{Timeout: 10 * time.Second}, func(f doctor.Finding) { findings = append(findings, f) })
	if err != nil {
		return nil, err
	}
	healthy := d.Run(ctx)
	return json.MarshalIndent(map[string]any{"healthy": healthy, "findings": findings}, "", "  ")
}
