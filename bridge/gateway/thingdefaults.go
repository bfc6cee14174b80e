package gateway

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"fleetbridge/mapping"
)

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// thingDefaults checks the placeholders, and completes the paths: they begin at the main file, wherever the Thing stands.
func (v *validator) thingDefaults() {
	d := &v.ThingDefaults
	v.placeholders("username", d.Username, "{name}", "{client_id}", "{token}")
	v.placeholders("thing_type_name", d.TypeName, "{token}")
	for key, path := range map[string]*string{"password_file": &d.PasswordFile, "tls.cert_file": &d.TLS.CertFile, "tls.key_file": &d.TLS.KeyFile,
		"schema_dir": &d.SchemaDir, "thing_type": &d.ThingType} {
		v.placeholders(key, *path, "{token}")
		if *path != "" {
			if whole, err := filepath.Abs(v.join("thing_defaults", *path)); err == nil {
				*path = whole
			}
		}
	}
}

// placeholders checks what a default holds. A name may have characters that mean something in a path; a token has none.
func (v *validator) placeholders(key, text string, known ...string) {
	for _, p := range placeholder.FindAllString(text, -1) {
		if !slices.Contains(known, p) {
			v.problem("thing_defaults."+key, "%s stands for nothing here, write %s", p, strings.Join(known, " or "))
		}
	}
}

// fill gives a Thing the defaults of the keys that it leaves out.
func (v *validator) fill(t *Thing, at string) {
	d := v.ThingDefaults
	if t.Name == "" || v.broken("thing_defaults") {
		return
	}
	own := strings.NewReplacer("{name}", t.Name, "{client_id}", t.ClientID, "{token}", mapping.Token(t.Name))
	take := func(into *string, from string, keys ...string) {
		if !slices.ContainsFunc(keys, func(key string) bool { return v.set(at + "." + key) }) && *into == "" {
			*into = own.Replace(from)
		}
	}
	take(&t.Username, d.Username, "username")
	take(&t.PasswordFile, d.PasswordFile, "password", "password_file")
	take(&t.TLS.CertFile, d.TLS.CertFile, "tls")
	take(&t.TLS.KeyFile, d.TLS.KeyFile, "tls")
	take(&t.SchemaDir, d.SchemaDir, "schema_dir")
	take(&t.ThingType, d.ThingType, "thing_type", "thing_type_name")
	take(&t.TypeName, d.TypeName, "thing_type", "thing_type_name")
}
