package access

import (
	"net"

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Anybody lets in whoever comes, with any login or none: there are no users. Programs may do everything but speak in the
// cloud's place.
type Anybody struct {
	account   *server.Account
	forbidden *server.Permissions
}

// NewAnybody denies what the bridge alone publishes: what the cloud sent, and dead letters.
func NewAnybody(s mapping.Subjects) *Anybody {
	return &Anybody{forbidden: &server.Permissions{Publish: &server.SubjectPermission{Deny: wire.MirroredSubjects(s)}}}
}

// Check implements the server's Authentication.
func (a *Anybody) Check(c server.ClientAuthentication) bool {
	user := &server.User{Account: a.account}
	if _, ok := c.RemoteAddress().(*net.TCPAddr); ok { // else it is the bridge, within the process
		user.Permissions = a.forbidden
	}
	c.RegisterUser(user)
	return true
}

// Begin says in which account everybody is. It is called before anybody connects.
func (a *Anybody) Begin(account *server.Account) { a.account = account }

// Open makes the server accept everybody, and say so. It asks custom authentication, not its own list of users; but without
// one it would tell clients that it wants a login.
func (a *Anybody) Open(opts *server.Options) {
	const nobody = reservedUser + "-nobody"
	opts.CustomClientAuthentication = a
	opts.Users, opts.NoAuthUser = []*server.User{{Username: nobody}}, nobody
}
