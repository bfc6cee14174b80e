// Package access is who the users of local.users are, what each may do, and how a NATS server is made to see to it: as accounts
// and permissions of the embedded server, or as the configuration that `fleetbridge acl` prints for an external one. The server,
// the packages bus and clerk use it.
//
//   - User is a login of the configuration; grants spells what it may do, in the server's terms. What is not there is refused.
//   - Logins is the embedded server's authentication, and the users' accounts on it. Anybody takes its place without users.
//   - guesses looks at passwords that are known as hashes, so that wrong ones keep no right one waiting for long.
//
// Each user has an account of its own, in which there is nothing but what its programs subscribe to; what it may do reaches into
// the bridge's account by imports. An account that is there is never removed: the server has no way to forget one. It only loses
// its imports.
//
// Locks of Logins: changing (of accounts) is taken before mu (who may log in), and mu before the door's. The server calls Check
// without locks of its own that SetUsers needs.
package access
