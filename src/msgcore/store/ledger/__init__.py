"""The ledger of messages and deliveries: batched writers and the queries on them."""
