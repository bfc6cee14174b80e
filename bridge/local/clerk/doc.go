// Package clerk answers the JetStream requests of users, with the bridge's rights, so that a stock client can read its own
// Things' part of a stream. Some requests say in their body, and not in their subject, what they read and where that is
// delivered. So the clerk looks at each, and asks JetStream only for the part that the user may have. The gateway runs one
// Clerk, with users only.
//
//   - Clerk has a reader for each user, with a goroutine of its own: a user that asks a lot delays only itself.
//   - A reader looks at a request (consumer requests, pulls, reads of messages), asks JetStream, and answers.
//   - shelf has the consumers that a user made. The Clerk makes their real names, so that nobody else can know them.
//
// Locks: Clerk.mu (of readers), and mu of each shelf. Neither is held while the other is taken, or while JetStream is asked.
// SetUsers and Close are called by one goroutine at a time.
package clerk
