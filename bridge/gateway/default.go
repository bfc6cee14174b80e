package gateway

import "reflect"

// Default is a configuration with every default filled in: what Load returns for a file that says
// nothing, but for mqtt.server and things, which have no default. Relative paths are the process's.
func Default() *Config {
	c := &Config{}
	preset(reflect.ValueOf(c).Elem())
	return c
}
