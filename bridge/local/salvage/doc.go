// Package salvage makes damaged files of JetStream usable again, as far as the server does not by itself: before it starts
// (Sequences), and bucket by bucket while it runs (Bucket). What can't be read is lost, counted and said; all else stays.
// It knows the format of the server's files and how the server reads them; which buckets there are, and what is in them, others
// know. The journal has its own care, and what is missing at the end of a stream is found by comparing: neither belongs here.
package salvage
