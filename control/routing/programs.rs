//! Programs that need no application: a direct bridge, and a conversation with an agent.

use std::time::Duration;

use tandem_call::conversation::{AgentSpec, ConversationSpec, ConversationTarget};
use tandem_call::program::instruction::{AfterBridge, Converse, Dial, DialRecord, DialTarget, Instruction, Program};
use tandem_call::recording::{RecordingChannels, RecordingSource, RecordingSpec};
use tandem_settings::RecordBridge;

/// Maximum ringing time of a bridged number. Most callers hang up earlier.
const BRIDGE_TIMEOUT: Duration = Duration::from_secs(180);

/// Builds the program of a conversation with an agent.
pub fn agent_program(agent: AgentSpec) -> Program {
    let spec = Box::new(ConversationSpec::new(ConversationTarget::Agent(Box::new(agent))));
    Program { instructions: vec![Instruction::Converse(Converse { spec, action: None })], warnings: Vec::new() }
}

/// Builds the program of a direct bridge. The progress, the answer and the refusal of the called party reach the caller
/// unchanged.
pub fn bridge_program(target: DialTarget, record: RecordBridge) -> Program {
    let record = match record {
        RecordBridge::Off => None,
        RecordBridge::Mono => Some(RecordingChannels::Mono),
        RecordBridge::Dual => Some(RecordingChannels::Dual),
    };
    let dial = Dial {
        answer_on_bridge: true,
        record: record.map(|channels| DialRecord {
            from_ringing: false,
            spec: RecordingSpec::new(RecordingSource::Trunk, channels),
        }),
        after: AfterBridge::Hangup,
        pass_failure: true,
        ..Dial::new(vec![target], BRIDGE_TIMEOUT)
    };
    Program { instructions: vec![Instruction::Dial(dial)], warnings: Vec::new() }
}
