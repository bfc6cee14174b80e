// Package clerk answers the JetStream requests of users, with the bridge's rights: what it takes to read one's own Things' part
// of a stream with a stock client. Some requests say in their body, and not in their subject, what they read and where that is
// delivered; so each is looked at, and JetStream is asked for what is left of it. The gateway runs one Clerk, with users only.
//
//   - Clerk has a reader for each user, with a goroutine of its own: who asks a lot waits for himself.
//   - A reader looks at a request (consumer requests, pulls, reads of messages), asks JetStream, and answers.
//   - shelf has the consumers that a user made. Their real names are the Clerk's, so that nobody else can know them.
//
// Locks: Clerk.mu (of readers), and mu of each shelf. Neither is held while the other is taken, or while JetStream is asked.
// SetUsers and Close are called by one goroutine at a time.
package clerk
