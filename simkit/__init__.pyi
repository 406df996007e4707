# The public names of simkit, each with the module that defines it. The only list of them.

from simkit.components.agent import Act as Act
from simkit.components.agent import Agent as Agent
from simkit.components.agent import AgentStart as AgentStart
from simkit.components.tools import CallTool as CallTool
from simkit.components.cast import Cast as Cast
from simkit.components.agent import Decision as Decision
from simkit.components.reward import Hit as Hit
from simkit.components.reward import Reward as Reward
from simkit.components.reward import ScoreEpisode as ScoreEpisode
from simkit.components.reward import ScoreTurn as ScoreTurn
from simkit.components.user import Speak as Speak
from simkit.components.agent import StartAgent as StartAgent
from simkit.components.tools import StartTools as StartTools
from simkit.components.tools import ToolReturn as ToolReturn
from simkit.components.tools import ToolServer as ToolServer
from simkit.components.tools import ToolsStart as ToolsStart
from simkit.components.user import User as User
from simkit.components.user import UserTurn as UserTurn
from simkit.core.conversation import Conversation as Conversation
from simkit.core.conversation import Entry as Entry
from simkit.core.conversation import Utterance as Utterance
from simkit.core.limits import Limits as Limits
from simkit.core.messages import AssistantMessage as AssistantMessage
from simkit.core.messages import ToolCall as ToolCall
from simkit.core.messages import ToolResult as ToolResult
from simkit.core.messages import ToolSpec as ToolSpec
from simkit.core.tasks import Goal as Goal
from simkit.core.ontology import Ontology as Ontology
from simkit.core.tasks import Task as Task
from simkit.core.ontology import Wish as Wish
from simkit.components.world import World as World
from simkit.errors import Fault as Fault
from simkit.errors import RunStopped as RunStopped
from simkit.errors import SimkitError as SimkitError
from simkit.errors import UsageError as UsageError
from simkit.models.config import ModelConfig as ModelConfig
from simkit.run.engine import FaultPolicy as FaultPolicy
from simkit.run.run import Run as Run
from simkit.run.summary import Summary as Summary
from simkit.core.events import Episode as Episode
from simkit.search.base import Supervisor as Supervisor
from simkit.search.josh import BeamSearch as BeamSearch
from simkit.search.josh import Josh as Josh
from simkit.search.rollout import Rollout as Rollout
from simkit.store import Store as Store

__all__: list[str]
__version__: str
