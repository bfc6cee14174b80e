package local

import (
	"net"

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// anybody lets in whoever comes, with any login or none: there are no users. Programs may do everything but speak in the
// cloud's place.
type anybody struct {
	account   *server.Account // set before anybody connects
	forbidden *server.Permissions
}

// newAnybody denies what the bridge alone publishes: what the cloud sent, and dead letters.
func newAnybody(s mapping.Subjects) *anybody {
	return &anybody{forbidden: &server.Permissions{Publish: &server.SubjectPermission{Deny: wire.MirroredSubjects(s)}}}
}

// Check implements the server's Authentication.
func (a *anybody) Check(c server.ClientAuthentication) bool {
	user := &server.User{Account: a.account}
	if _, ok := c.RemoteAddress().(*net.TCPAddr); ok { // else it is the bridge, within the process
		user.Permissions = a.forbidden
	}
	c.RegisterUser(user)
	return true
}

// open makes the server accept everybody, and say so. It asks custom authentication, not its own list of users; but without
// one it would tell clients that it wants a login.
func (a *anybody) open(opts *server.Options) {
	const nobody = reservedUser + "-nobody"
	opts.CustomClientAuthentication = a
	opts.Users, opts.NoAuthUser = []*server.User{{Username: nobody}}, nobody
}
