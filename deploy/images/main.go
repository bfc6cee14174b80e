// The command images makes the container images of the Dockerfile without a container engine and without a registry: OCI layouts,
// each with an image for every platform. The programs are those that deploy/release/make has built; ENTRYPOINT, CMD and the
// like are the Dockerfile's. The same programs and time give the same bytes.
//
//	images -dockerfile Dockerfile -time UNIX -version 1.2.3 -out DIRECTORY amd64=DIR arm64=DIR arm/v7=DIR
package main

import (
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const user = 65532 // of the Dockerfile, too

func main() {
	dockerfile := flag.String("dockerfile", "Dockerfile", "what the images are like, `FILE`")
	seconds := flag.Int64("time", 0, "of all that has a time, in seconds since 1970")
	version := flag.String("version", "", "tag of the images")
	out := flag.String("out", "", "where the layouts go, fleetbridge and fleetsim in it, `DIRECTORY`")
	flag.Parse()
	if err := run(*dockerfile, *out, *version, time.Unix(*seconds, 0).UTC(), flag.Args()); err != nil {
		fmt.Fprintf(os.Stderr, "images: %v\n", err)
		os.Exit(1)
	}
}

func run(dockerfile, out, version string, at time.Time, platforms []string) error {
	if out == "" || version == "" || len(platforms) == 0 {
		return errors.New("-out, -version and a platform are needed, as amd64=dist/linux-amd64")
	}
	text, err := os.ReadFile(dockerfile)
	if err != nil {
		return err
	}
	stages, err := read(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", dockerfile, err)
	}
	for _, name := range []string{"fleetbridge", "fleetsim"} {
		config, is := stages[name]
		if !is {
			return fmt.Errorf("%s: it has no stage %s", dockerfile, name)
		}
		index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
		for _, p := range platforms {
			platform, dir, is := strings.Cut(p, "=")
			if !is {
				return fmt.Errorf("%q is no platform with a directory, as amd64=dist/linux-amd64", p)
			}
			arch, variant, _ := strings.Cut(platform, "/")
			image, err := build(name, config, filepath.Join(dir, name), v1.Platform{OS: "linux", Architecture: arch, Variant: variant}, at)
			if err != nil {
				return fmt.Errorf("%s for %s: %w", name, platform, err)
			}
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{
				MediaType: types.OCIManifestSchema1, Platform: &v1.Platform{OS: "linux", Architecture: arch, Variant: variant}}})
		}
		path, err := layout.Write(filepath.Join(out, name), empty.Index)
		if err != nil {
			return err
		}
		if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{
			"org.opencontainers.image.ref.name": version,
			"io.containerd.image.name":          "docker.io/library/" + name + ":" + version, // which docker load reads
		})); err != nil {
			return err
		}
	}
	return nil
}

// build makes an image with one layer for what seldom changes and one for the program.
func build(name string, config v1.Config, program string, p v1.Platform, at time.Time) (v1.Image, error) {
	binary, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	base := []file{
		dir("etc"), {name: "etc/passwd", mode: 0o644, data: fmt.Appendf(nil, "fleetbridge:x:%d:%d::/data:/sbin/nologin\n", user, user)},
		{name: "etc/group", mode: 0o644, data: fmt.Appendf(nil, "fleetbridge:x:%d:\n", user)},
		dir("etc/ssl"), dir("etc/ssl/certs"), {name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: roots()},
	}
	if _, is := config.Volumes["/data"]; is {
		base = append(base, file{name: "data", mode: 0o755, dir: true, owner: user})
	}
	programs := []file{dir("usr"), dir("usr/local"), dir("usr/local/bin"), {name: "usr/local/bin/" + name, mode: 0o755, data: binary}}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, files := range [][]file{base, programs} {
		l, err := layer(files, at)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.Append(image, mutate.Addendum{Layer: l, MediaType: types.OCILayer, History: v1.History{Created: v1.Time{Time: at}, CreatedBy: "fleetbridge/deploy/images"}}); err != nil {
			return nil, err
		}
	}
	c, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Variant, c.Created, c.Config = p.OS, p.Architecture, p.Variant, v1.Time{Time: at}, config
	return mutate.ConfigFile(image, c)
}

// roots are the certificates that Mozilla trusts without conditions that a file can't hold.
func roots() (out []byte) {
	for r := range bundle.Roots() {
		if r.Constraint == nil {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate})...)
		}
	}
	return out
}
