// Package journal is an append-only log for a program that is responsible for what others hand it. It answers one
// question: what is in the log, and who is done with it? There are three kinds of records.
//
//   - A message of a lane: gone when settled. A lane is settled in order, so one number says how far, its floor.
//   - A view record, of what has to appear elsewhere: gone by a checkpoint.
//   - A state, a value under a key: the newest counts.
//
// A decision is one [Group] of any of them: appended at once or not at all. Many callers append at once; one goroutine, the
// committer, writes all that waits and syncs once, and who comes meanwhile goes with the next. Settling needs no write:
// the next one carries the floors. Bodies are read from the files when they are asked for, and checked then; in memory
// are 24 bytes a message.
//
// # Format
//
// A journal is a directory of segments, files of one size, NUMBER.seg, and the file lock. A segment is made before it is
// needed, full of zeros (a spare), and becomes the newest one by its first write. Integers are little endian, or varints (v).
//
//	segment   header, header (at a multiple of 4096), batch …
//	batch     head, bodies, padding, tail
//	frame     checksum u32, length u32, mark u32, fields, padding to 8
//
// Header, head and tail are frames. The checksum is a CRC-32C of the segment's random salt, the frame's place, and the frame
// from its length on: so a frame counts at its own place only, and neither a body that holds bytes of a journal nor what a
// file held in an earlier life passes for one. (A header's has the segment's number instead of both.)
//
//	header    version v, salt u64, segment v, first number v, count v, {segment v, first v, numbers v} …
//	head      first number v, first-synced v, Unix ms v, bytes of bodies v, count v, record …
//	tail      the same fields
//	record    kind u8 (top bit: its body was damaged before it was moved), key length v, key, number-ref v,
//	          and if it has a body: length v, CRC-32C u32
//
//	kind      1 message   key: lane   ref: the number under which it was accepted
//	          2 view      -           ref: the same
//	          3 state     key         ref: the same; the highest counts
//	          4 deletion  key         ref: the same
//	          5 floor     key: lane   ref: the last number that is settled
//	          6 checkpoint -          ref: the last view record that is gone
//	          7 id        the id      ref: the first record of its group, or the record before
//
// Records have consecutive numbers, over all segments. A batch is a table of its records twice, around their bodies:
// either table is enough to read it, and to name what is damaged.
//
// # Invariants
//
//  1. A number that was answered without an error is readable until it is settled, replaced, or reported as damage.
//  2. A body is returned only if it has the checksum of its table, and a table counts only if its frame's checksum is right.
//  3. The newest header says which segments there are and which numbers of them count. Everything else in the directory is
//     spare, or left over and removed once a newer header is on the disk.
//  4. A segment takes no more writes after one failed, or after a try to begin the next one.
//  5. In the newest segment, what a batch calls synced was on the disk. Behind that, batches count as long as they are whole,
//     in order; Open writes these once more where they are, for they may have been read from memory only.
//  6. A file is used only after its directory was synced, and let go only after the header that leaves it out was.
//  7. A floor or a deletion is kept while a segment may hold what it cancels.
//  8. A message that is moved keeps its number. The first number of a segment is above all that count in older ones.
//  9. Groups that are not urgent leave three spare files alone, urgent ones one.
//
// # What a crash leaves
//
// A crash is the end of the process, or a power cut that also takes what was not synced, in any part: sectors of a write,
// names of files.
//
//	operation   step                         a crash then leaves
//	append      before the write             nothing of the groups
//	            between write and sync       all of the batch, or nothing of it that counts (5); what of it is readable
//	                                         is reported as Unconfirmed. Nobody was answered, unless the group was lazy
//	            after the sync               all of it
//	failed      before the next segment      the same as between write and sync: a group that got an error may count
//	append      after that one's first sync  nothing of the failed groups: the new header says what counts
//	settle      before the next write        the messages again
//	            after it                     the floor
//	new         file made, name unsynced     a spare, or nothing
//	segment     first write unsynced         the older segments as they were, and the file left over (3); or all of it
//	            first sync done              the new header; segments that it leaves out are left over until the next one
//	move        copies written               records twice, under one number: the newer place counts
//	            header without the segment   the copies
//	let go      renamed, zeroed, removed     a spare or nothing; if the old name comes back, it is left over
//	lazy sync   failed                       what was answered and unsynced is written again to the next segment, batch by
//	                                         batch; a crash before that takes the rest
//
// The ids of groups are remembered over a restart as far as files are left: the two newest that hold nothing live stay for
// them, for two minutes, while there is room.
//
// What it can't tell: the last batch before a crash, if a bit of it flips later, looks like one that the crash cut short. It
// is reported, as Unconfirmed, and none of it counts. Close ends with an empty batch that calls everything synced, and so
// does every batch for those before it.
//
// # Damage
//
// A flipped bit costs the body that it hits, or nothing: tables and headers are there twice. A destroyed page costs what
// lies on it; a body names itself by its table, and what neither table says any more is counted by its numbers. What is
// behind it is found by looking for the next frame.
//
// # Locks
//
// Journal.files, then Journal.mu. intake.mu is taken alone. The writer belongs to the committer and needs none. No lock is
// held while the disk is written or while done is called; files is held for reading while bodies are read.
package journal
