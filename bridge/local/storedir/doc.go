// Package storedir is the directory in which a bridge with an embedded server keeps everything: whose it is, who may write into
// it, which process has it, how much room its disk has, and which of its files are on that disk.
//
// Beside what is kept here (the lock, and the operator's key) it has the files of JetStream, of the journal and of the
// socket for people, by their names only: what is in them is the business of others. Nothing here knows streams or subjects.
package storedir
