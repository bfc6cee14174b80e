package gateway

import (
	"fleetbridge/bridge/local/access"
	"fleetbridge/mapping"
)

// LocalUsers are the users of the configuration as the NATS side knows them. Who names no Things gets all.
func (c *Config) LocalUsers() []access.User {
	out := make([]access.User, 0, len(c.Local.Users))
	for _, u := range c.Local.Users {
		user := access.User{Name: u.Name, Password: string(u.Password), NKey: u.NKey, Allow: u.Allow, Bus: c.Local.Bus}
		for _, t := range u.Things {
			user.Things = append(user.Things, mapping.Thing(t))
		}
		if len(user.Things) == 0 {
			for _, t := range c.Things {
				user.Things = append(user.Things, mapping.Thing(t.Name))
			}
		}
		out = append(out, user)
	}
	return out
}
