// Package access says who the users of local.users are and what each may do. It puts that into a NATS server's terms: accounts
// and permissions of the embedded server, or the configuration that `fleetbridge acl` prints for an external one. The server and
// the packages bus and clerk use it.
//
//   - User is a login of the configuration; grants spells what it may do, in the server's terms. What is not there is refused.
//   - Logins is the embedded server's authentication, and the users' accounts on it. Anybody takes its place without users.
//   - guesses compares passwords with bcrypt hashes, and keeps wrong ones from delaying right ones for long.
//
// Each user has an account of its own. It contains only what the user's programs subscribe to. What the user may do is an import
// from the bridge's account. An account that is there is never removed: the server has no way to forget one. It only loses
// its imports.
//
// Locks of Logins: changing (of accounts) is taken before mu (who may log in), and mu before the door's. The server calls Check
// without locks of its own that SetUsers needs.
package access
