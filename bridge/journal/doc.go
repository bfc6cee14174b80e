// Package journal is an append-only log for a program that is responsible for what others hand it. It answers one
// question: what is in the log, and what of it is done? There are three kinds of records.
//
//   - A message of a lane: it is gone when it is settled. A lane is settled in order, so one number, its floor, says how far.
//   - A view record, of something that has to be written elsewhere, too: it is gone when a checkpoint says so.
//   - A state, a value under a key: only the newest counts.
//
// A [Group] of any of them is appended as a whole or not at all. Many callers append at the same time. One goroutine, the
// committer, writes all groups that wait, and syncs once; what comes meanwhile goes with the next write. Settling needs no
// write of its own: the next write carries the floors. Bodies are read from the files when they are asked for, and checked
// then. The memory holds 24 bytes for each message.
//
// A record is live until it is gone or replaced. To free a segment that has few live records, the committer moves these into
// the newest segment, under their numbers. A group is normally answered after the sync. A lazy group is answered after the
// write, and synced later. A patient group waits for the next write. An urgent group may use spare files that the others
// leave.
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
// from its length on. So a frame counts only at its own place. Bytes of a journal within a body, or what the file held when
// it was another segment, can't be taken for a frame. (A header's checksum has the segment's number instead of both.)
//
//	header    version v, salt u64, segment v, first number v, count v, {segment v, first v, numbers v} …
//	head      first number v, first-synced v, Unix ms v, bytes of bodies v, count v, record …
//	tail      the same fields
//	record    kind u8 (top bit: its body was damaged already when the record was moved), key length v, key, number-ref v,
//	          and if it has a body: length v, CRC-32C u32
//
//	kind          key       ref
//	1 message     lane      the number under which it was accepted
//	2 view        -         the number under which it was accepted
//	3 state       its key   the number under which it was accepted; of a key the highest counts
//	4 deletion    its key   the number under which it was accepted
//	5 floor       lane      the last number that is settled
//	6 checkpoint  -         the last view record that is gone
//	7 id          the id    the first record of its group, or the record before
//
// Records have consecutive numbers, over all segments. A batch has the table of its records twice: head in front of the
// bodies, tail behind them. Either table is enough to read the batch, and to name what is damaged.
//
// # Invariants
//
//  1. A number that was answered without an error is readable until it is settled, replaced, or reported as damage.
//  2. A body is returned only if it has the checksum of its table, and a table counts only if its frame's checksum is right.
//  3. The newest header says which segments there are and which numbers of them count. Every other file in the directory is a
//     spare, or left over: it is removed when a newer header is on the disk.
//  4. A segment takes no more writes after one failed, or after a try to begin the next one.
//  5. In the newest segment, what a batch calls synced was on the disk. Behind that, batches count as long as they are whole,
//     in order. Open writes these once more in their places, because it may have read them from the page cache only.
//  6. A file is used only after its directory was synced, and removed or reused only after the header without it was synced.
//  7. A floor or a deletion is kept while a segment may hold what it cancels.
//  8. A message that is moved keeps its number. The first number of a segment is above all that count in older ones.
//  9. Groups that are not urgent leave three spare files unused, urgent ones leave one.
//
// # What a crash leaves
//
// A crash is the end of the process, or a power cut that also takes what was not synced, in any part: sectors of a write,
// names of files.
//
//	operation   step                         a crash then leaves
//	append      before the write             nothing of the groups
//	            between write and sync       all of the batch, or nothing of it that counts (5). Open reports what it
//	                                         can read of such a batch as Unconfirmed. Only lazy groups were answered
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
// The ids of groups are remembered over a restart as long as their files are there: the two newest files without live records
// stay for this, for two minutes, while there is room.
//
// One thing the journal can't tell: if a bit of the last batch before a crash flips later, the batch looks as if the crash had
// cut it short. It is reported as Unconfirmed, and none of it counts. Each batch says that those before it are synced, and
// Close writes an empty batch last, so this concerns only the last batch before a crash.
//
// # Damage
//
// A flipped bit costs the body that it hits, or nothing, because tables and headers are there twice. A destroyed page costs
// what lies on it. A body that is lost is named by its table; if both tables are lost, too, the missing records are known by
// their numbers. What is behind the damage is found by a search for the next frame.
//
// # Locks
//
// Journal.files, then Journal.mu. intake.mu is taken alone. The writer belongs to the committer and needs none. No lock is
// held while the disk is written or while done is called; files is held for reading while bodies are read.
package journal
