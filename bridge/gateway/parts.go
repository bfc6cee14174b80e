package gateway

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"fleetbridge/internal/plainfile"
)

// part is what a file of things_dir may hold: Things, and logins of the programs that act for them.
type part struct {
	Things []Thing   `yaml:"things"`
	Local  partLocal `yaml:"local"`
}

type partLocal struct {
	Users []User `yaml:"users"`
}

// Bounds of things_dir. 10,000 Things with a file each are more than one process serves.
const (
	maxParts      = 10_000
	maxPartsBytes = 16 << 20
)

// thingsDir adds what the files of things_dir hold to the configuration, in the order of their names.
func (v *validator) thingsDir(env func(string) (string, bool)) {
	for i := range v.Things {
		v.thingAt = append(v.thingAt, v.item("things", i))
	}
	for i := range v.Local.Users {
		v.userAt = append(v.userAt, v.item("local.users", i))
	}
	if v.edit.Add != "" { // behind the others, so that what is there already has its name
		defer v.addPart(v.edit.Add, v.edit.Text, env)
	}
	if v.ThingsDir == "" || v.broken("things_dir") {
		return
	}
	v.ThingsDir = v.join("things_dir", v.ThingsDir)
	v.files.add(root{path: v.ThingsDir, depth: 1})
	entries, err := plainfile.List(v.ThingsDir, maxParts)
	if err != nil {
		v.problem("things_dir", "%s", fileError(v.ThingsDir, err))
		return
	}
	bytes := 0
	for _, e := range entries {
		path := filepath.Join(v.ThingsDir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."), slices.Contains(v.edit.Without, path):
		case strings.HasSuffix(e.Name(), ".yml"):
			v.warn("things_dir", "%s is not read: its name must end in .yaml", path)
		case strings.HasSuffix(e.Name(), ".yaml"):
			bytes += v.part(path, env)
		}
		if bytes > maxPartsBytes {
			v.problem("things_dir", "%s holds more than %s, which no configuration needs", v.ThingsDir, Size(maxPartsBytes))
			return
		}
	}
}

// part reads one file and returns its size.
func (v *validator) part(path string, env func(string) (string, bool)) int {
	file, err := plainfile.Read(path, "configuration", maxFileBytes)
	if err != nil {
		v.problem(v.newPart(path), "%s", reason(err))
		return 0
	}
	v.infos[path] = file.Info
	v.addPart(path, file.Data, env)
	return len(file.Data)
}

// newPart makes a prefix for what stands in another file.
func (v *validator) newPart(path string) string {
	prefix := fmt.Sprintf("parts[%d]", len(v.report.parts))
	v.report.parts[prefix] = path
	return prefix
}

// addPart adds what a file holds.
func (v *validator) addPart(path string, text []byte, env func(string) (string, bool)) {
	p, prefix := part{}, v.newPart(path)
	v.decode(text, env, reflect.ValueOf(&p).Elem(), prefix)
	for i := range p.Things {
		v.thingAt = append(v.thingAt, v.item(prefix+".things", i))
	}
	for i := range p.Local.Users {
		v.userAt = append(v.userAt, v.item(prefix+".local.users", i))
	}
	v.Things = append(v.Things, p.Things...)
	v.Local.Users = append(v.Local.Users, p.Local.Users...)
}
