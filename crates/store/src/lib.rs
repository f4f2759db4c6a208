//! A revisioned key space over redb: transactions, watch from a revision, compaction.
