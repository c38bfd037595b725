//! The metric families of this server, in one table, from which `scripts/docs.sh` writes docs/reference/metrics.md. Users'
//! dashboards name the families: a name never changes.

/// The kind of a family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A count since the start of the server. Its name ends in `_total`.
    Counter,
    /// A value that rises and falls.
    Gauge,
    /// The distribution of values in buckets.
    Histogram,
}

/// A metric family.
#[derive(Debug)]
pub struct Family {
    /// The name.
    pub name: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// The help text.
    pub help: &'static str,
}

/// Declares the families, each in the form `NAME: Kind "name" [labels] "help";`.
macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal [$($label:ident),*] $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Family = Family { name: $name, kind: Kind::$kind, labels: &[$(stringify!($label)),*], help: $help };)*

        /// All families.
        pub const ALL: &[&Family] = &[$(&$constant),*];
    };
}

families! {
    // Calls and documents.
    LEGS_INBOUND: Counter "tandem_legs_inbound_total" [] "Inbound legs";
    LEGS_OUTBOUND: Counter "tandem_legs_outbound_total" [] "Outbound legs";
    LEGS_ANSWERED: Counter "tandem_legs_answered_total" [] "Answered legs";
    CALLS_REFUSED: Counter "tandem_calls_refused_total" [] "Calls to unknown numbers";
    HTTP_UNAUTHORIZED: Counter "tandem_http_unauthorized_total" [] "HTTP requests with wrong credentials or none";
    DOCUMENTS_FAILED: Counter "tandem_documents_failed_total" [] "Documents that could not be fetched or read";
    PLAYBACKS_FAILED: Counter "tandem_playbacks_failed_total" [] "Audio files that could not be fetched or played";
    RECORDINGS_FAILED: Counter "tandem_recordings_failed_total" [] "Recordings that could not be written";
    STREAMS_FAILED: Counter "tandem_streams_failed_total" [] "Streams that could not be opened or that broke";
    API_BODIES_REFUSED: Counter "tandem_api_bodies_refused_total" [] "API requests with an unreadable body";
    RTP_PACKETS_LOST: Counter "tandem_rtp_packets_lost_total" [] "Lost RTP packets of ended legs";
    RECORDINGS_DROPPED_MILLISECONDS: Counter "tandem_recordings_dropped_milliseconds_total" [] "Deprecated: tandem_recordings_dropped_seconds_total in milliseconds";
    RTCP_FOREIGN: Counter "tandem_rtcp_foreign_total" [] "RTCP packets about streams of no session, of ended legs";
    SUPPRESSION_SHED: Counter "tandem_suppression_shed_total" [] "How often a leg's noise suppression was skipped because the media threads had no time for it";
    SRTP_REFUSED: Counter "tandem_srtp_refused_total" [] "Packets that failed SRTP authentication or came twice";
    WEBRTC_REFUSED: Counter "tandem_webrtc_refused_total" [] "STUN and DTLS datagrams that were not authentic or not announced, of ended legs";
    LEGS_WITHOUT_AUDIO: Gauge "tandem_legs_without_audio" [] "Answered legs from which no packet has come for 2 s";
    RECORDINGS_WAITING: Gauge "tandem_recordings_waiting" [] "Complete recordings on the disk that are not in the bucket yet (recordings.url = \"s3://...\")";
    RECORDINGS_DROPPED_SECONDS: Counter "tandem_recordings_dropped_seconds_total" [] "Audio lost because the disk was too slow; it is silence in the finished recordings";
    LEGS_ENDED: Counter "tandem_legs_ended_total" [cause] "Ended legs";
    PROBLEMS: Counter "tandem_problems_total" [cause] "Problems by cause, see docs/troubleshooting.md";
    RTP_IMPAIRED: Counter "tandem_rtp_impaired_total" [cause] "How often the audio of a leg became bad";
    // The process.
    BUILD_INFO: Gauge "tandem_build_info" [version, commit, rustc] "1; the labels name the build";
    PROCESS_START_TIME_SECONDS: Gauge "process_start_time_seconds" [] "Start time of the server, seconds since 1970 UTC";
    PROCESS_CPU_SECONDS: Counter "process_cpu_seconds_total" [] "CPU time of the server";
    PROCESS_RESIDENT_MEMORY_BYTES: Gauge "process_resident_memory_bytes" [] "Resident memory of the server";
    PROCESS_OPEN_FDS: Gauge "process_open_fds" [] "Open file descriptors, sockets included";
    PROCESS_MAX_FDS: Gauge "process_max_fds" [] "Limit of open file descriptors";
    // The cluster. A server that is alone has none of these.
    NODE_INFO: Gauge "tandem_node_info" [node, epoch] "1; the labels name this node of a cluster and its start";
    NODE_TAKES_CALLS: Gauge "tandem_node_takes_calls" [] "1 while this node takes new calls; 0 while it drains or cannot renew its lease";
    NODE_LEASE_HELD: Gauge "tandem_node_lease_held" [] "1 while this node holds its lease in the database";
    NODE_BUS_CONNECTED: Gauge "tandem_node_bus_connected" [] "1 while this node is connected to the bus";
    NODES_LIVING: Gauge "tandem_nodes_living" [] "Nodes that hold their lease, as this node sees them, with this node";
    BUS_MESSAGES: Counter "tandem_bus_messages_total" [direction] "Messages of this node on the bus: sent or received";
    // Caller numbers (STIR).
    STIR_VERIFIED: Counter "tandem_stir_verified_total" [result] "Inbound calls whose Identity was verified, by result";
    STIR_VOUCHED: Counter "tandem_stir_vouched_total" [how] "Outbound calls over trunks, by the Identity that was sent";
    // Trunks.
    TRUNK_ENDED: Counter "tandem_trunk_ended_total" [trunk, direction, status] "Ended legs over a trunk, by the final response to their INVITE";
    TRUNK_ANSWERED_SECONDS: Counter "tandem_trunk_answered_seconds_total" [trunk, direction] "Total duration of answered legs over a trunk";
    TRUNK_POST_DIAL_SECONDS: Histogram "tandem_trunk_post_dial_seconds" [trunk, direction] "Time until an outbound leg over a trunk rang";
    TRUNK_CALLS: Gauge "tandem_trunk_calls" [trunk] "Live legs over a trunk, both directions";
    TRUNK_LIMITED: Counter "tandem_trunk_limited_total" [trunk] "Calls above max_calls or max_cps";
    TRUNK_HEALTH: Gauge "tandem_trunk_health" [trunk] "2: up, 1: doubtful, 0: down, -1: unknown (not checked lately)";
    TRUNK_REGISTERED: Gauge "tandem_trunk_registered" [trunk] "1 if its registrar has Tandem's Contact, 0 if not";
    // Audio quality of ended legs.
    RTP_LOSS_RATIO: Histogram "tandem_rtp_loss_ratio" [direction] "Share of a leg's packets that were lost, 0 to 1, at its end";
    RTP_JITTER_SECONDS: Histogram "tandem_rtp_jitter_seconds" [direction] "Interarrival jitter of a leg at its end";
    RTP_MOS: Histogram "tandem_rtp_mos" [direction] "Mean opinion score of a leg by the E-model, 1 to 4.5";
    RTP_ROUND_TRIP_SECONDS: Histogram "tandem_rtp_round_trip_seconds" [] "Round-trip time of a leg by its last RTCP report";
    // Response times.
    DOCUMENT_SECONDS: Histogram "tandem_document_seconds" [] "Time until an application answered with a document";
    WEBHOOK_SECONDS: Histogram "tandem_webhook_seconds" [] "Time of each attempt at a webhook";
    SPEECH_SECONDS: Histogram "tandem_speech_seconds" [engine] "Time of a speech engine for one text (tts) or one utterance or file (stt)";
    STREAM_CONNECT_SECONDS: Histogram "tandem_stream_connect_seconds" [kind] "Time until an application's WebSocket was open";
    STREAM_FIRST_AUDIO_SECONDS: Histogram "tandem_stream_first_audio_seconds" [] "Time from a stream's start to the first audio of its application";
    TURN_SECONDS: Histogram "tandem_turn_seconds" [kind, until] "Time from the caller's end of speech to the recognised words, the application's first token and the first audio";
    // Speech, turns and media streams.
    SPEECH_FAILED: Counter "tandem_speech_failed_total" [engine] "Texts that the engine failed to speak (tts), recognisers that failed (stt)";
    TURN_INTERRUPTIONS: Counter "tandem_turn_interruptions_total" [kind] "Replies of applications that the caller interrupted";
    STREAM_FRAMES_OUT: Counter "tandem_stream_frames_out_total" [] "Frames of 20 ms sent to stream applications, of ended streams";
    STREAM_FRAMES_DROPPED: Counter "tandem_stream_frames_dropped_total" [] "Frames dropped because the stream's application was too slow, of ended streams";
    STREAM_MESSAGES_IN: Counter "tandem_stream_messages_in_total" [] "Media messages of stream applications, of ended streams";
    STREAM_UNDERRUNS: Counter "tandem_stream_underruns_total" [] "Gaps of up to 500 ms in the audio of stream applications, of ended streams";
    STREAM_CLEARS: Counter "tandem_stream_clears_total" [] "Clear messages of stream applications, of ended streams";
    STREAM_MARKS: Counter "tandem_stream_marks_total" [] "Marks of stream applications, of ended streams";
    // The media engine.
    LIVE_LEGS: Gauge "tandem_live_legs" [] "Legs with a media session";
    RTP_PACKETS_IN: Counter "tandem_rtp_packets_in_total" [] "RTP packets received";
    RTP_PACKETS_OUT: Counter "tandem_rtp_packets_out_total" [] "RTP packets sent";
    RTP_PACKETS_RELAYED: Counter "tandem_rtp_packets_relayed_total" [] "RTP packets passed from one leg to another";
    RTP_PACKETS_DROPPED: Counter "tandem_rtp_packets_dropped_total" [] "RTP packets from an unexpected source, or not as agreed in SDP";
    SDP_REFUSED: Counter "tandem_sdp_refused_total" [] "Offers and answers that were not SDP, or had no usable audio";
    ICE_PORT_REFUSED: Counter "tandem_ice_port_refused_total" [] "Datagrams, frames and streams at the shared ports of ICE that belonged to no leg";
    ICE_PORT_LOST: Counter "tandem_ice_port_lost_total" [] "Packets of the shared ports of ICE that were lost because a media thread or a stream was too slow";
    KERNEL_RELAY_FLOWS: Gauge "tandem_kernel_relay_flows" [] "RTP flows that the kernel relays now";
    MEDIA_THREADS: Gauge "tandem_media_threads" [] "Media threads";
    MEDIA_THREADS_OVERLOADED: Gauge "tandem_media_threads_overloaded" [] "Media threads that are late or transcode too much, so that they get no new calls";
    RTP_MALFORMED: Counter "tandem_rtp_malformed_total" [] "Datagrams that are not RTP or RTCP";
    MEDIA_LATE_SECONDS: Gauge "tandem_media_late_seconds" [] "Largest lateness of a media thread in the last half second";
    // SIP.
    SIP_MESSAGES_IN: Counter "tandem_sip_messages_in_total" [] "SIP messages received";
    SIP_MESSAGES_OUT: Counter "tandem_sip_messages_out_total" [] "SIP messages sent";
    SIP_MESSAGES_DROPPED: Counter "tandem_sip_messages_dropped_total" [] "SIP messages that could not be sent";
    SIP_REQUESTS_SHED: Counter "tandem_sip_requests_shed_total" [] "SIP requests refused with 503";
    SIP_STRANGERS: Counter "tandem_sip_strangers_total" [] "SIP requests from addresses outside every trunk's networks";
    SIP_MALFORMED: Counter "tandem_sip_malformed_total" [] "SIP messages that could not be parsed";
    SIP_BANS: Gauge "tandem_sip_bans" [] "Banned sources now";
    SIP_BANS_TOTAL: Counter "tandem_sip_bans_total" [] "Bans so far";
    SIP_BANNED_DROPPED: Counter "tandem_sip_banned_dropped_total" [] "SIP messages from banned sources, dropped unread";
    SIP_LIMITED: Counter "tandem_sip_limited_total" [] "SIP messages above source_rate, dropped unread";
    SIP_CROWDED: Counter "tandem_sip_crowded_total" [] "SIP messages above strangers_rate, dropped unread";
    SIP_OVERLOADED: Gauge "tandem_sip_overloaded" [] "1 while SIP is overloaded and new calls get 503";
    SIP_HEP_SENT: Counter "tandem_sip_hep_sent_total" [] "SIP messages sent to the capture server";
    SIP_HEP_DROPPED: Counter "tandem_sip_hep_dropped_total" [] "SIP messages that could not be sent to the capture server";
    SIP_TRACE_CALLS: Gauge "tandem_sip_trace_calls" [] "Call-IDs with kept SIP messages";
    SIP_TRACE_MESSAGES: Gauge "tandem_sip_trace_messages" [] "Kept SIP messages";
    SIP_TRACE_BYTES: Gauge "tandem_sip_trace_bytes" [] "Memory used by the kept SIP messages";
    SIP_TRACE_OCTETS: Gauge "tandem_sip_trace_octets" [] "Deprecated: tandem_sip_trace_bytes";
    SIP_TRANSACTIONS: Gauge "tandem_sip_transactions" [] "SIP transactions";
    SIP_CONNECTIONS: Gauge "tandem_sip_connections" [] "SIP stream connections";
    SIP_LEGS: Gauge "tandem_sip_legs" [] "SIP legs, including ending ones";
    SIP_REGISTRATIONS: Gauge "tandem_sip_registrations" [] "Registered contacts of phones";
    SIP_WRONG_PASSWORDS: Counter "tandem_sip_wrong_passwords_total" [] "SIP requests with a wrong password or an unknown user";
    SIP_RETRANSMISSIONS: Counter "tandem_sip_retransmissions_total" [] "Retransmitted SIP requests and responses to INVITE";
    CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS: Gauge "tandem_certificate_expiry_timestamp_seconds" [certificate] "Time at which a certificate of this server expires, in seconds since 1970";
    // Webhooks, files and the database.
    WEBHOOKS_DELIVERED: Counter "tandem_webhooks_delivered_total" [] "Webhooks that were answered with success";
    WEBHOOKS_FAILED: Counter "tandem_webhooks_failed_total" [] "Webhooks given up";
    WEBHOOKS_RETRIED: Counter "tandem_webhooks_retried_total" [] "Attempts that were retried";
    MP3S_MADE: Counter "tandem_mp3s_made_total" [] "MP3 files made from recordings";
    EVENT_LINES_DROPPED: Counter "tandem_event_lines_dropped_total" [] "Lines of call logs dropped because the database was slow";
    DATABASE_READY: Gauge "tandem_database_ready" [] "1 while the database accepts writes, as in /readyz";
    DATABASE_WRITES_WAITING: Gauge "tandem_database_writes_waiting" [] "Writes that wait for the database";
    DATABASE_FAILURES: Counter "tandem_database_failures_total" [] "Failed database transactions; each is tried again";
    DATABASE_WRITES_LOST: Counter "tandem_database_writes_lost_total" [] "Writes that were refused or given up: lost data";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_own_name_and_only_counters_end_in_total() {
        let mut names: Vec<&str> = ALL.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for family in ALL {
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
        }
    }
}
